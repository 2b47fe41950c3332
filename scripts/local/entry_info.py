"""The files of an entry's folder, and what its submission_info.yml says."""

import re
from pathlib import Path

from common.cli import UserError
from workloads.official.datasets import FRAMEWORKS

SUBMISSION, SPACE, INFO = "submission.py", "tuning_search_space.json", "submission_info.yml"
# Names of that file that people have given it.
_INFOS = "submission*_info.y*ml"


def text(folder: Path) -> str:
    """The file's text; empty if there is none."""
    return "".join(file.read_text("utf-8", "replace") for file in sorted(folder.glob(_INFOS)))


def value(info: str, key: str) -> str:
    """A value of the file in small letters; empty if there is none.

    Some files of that name hold an environment of conda's and no YAML of the benchmark's, so that
    lines are searched.
    """
    match = re.search(rf"^{key}:\s*['\"]?([\w-]+)", info, re.MULTILINE)
    return match[1].lower() if match else ""


def check_folder(folder: Path, where: str) -> None:
    """UserError, which begins with `where`, for a folder that cannot be imported as an entry."""
    if not (folder / SUBMISSION).is_file():
        raise UserError(f"{where}: no {SUBMISSION} in {folder}")
    if not folder.name.isidentifier():
        raise UserError(f"{where}: {folder.name!r} cannot be the name of a module")


def framework(folder: Path) -> str:
    """The framework that a folder names, else that which its submission imports."""
    said = value(text(folder), "framework")
    if said in FRAMEWORKS:
        return said
    code = (folder / SUBMISSION).read_text("utf-8", "replace")
    imported = set(re.findall(r"^\s*(?:import|from)\s+(torch|jax)\b", code, re.MULTILINE))
    return "jax" if imported == {"jax"} else "pytorch"
