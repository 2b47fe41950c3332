"""What an entry's folder says about itself in its submission_info.yml."""

import re
from pathlib import Path

from workloads.official.datasets import FRAMEWORKS

# Names of that file that people have given it.
_INFOS = "submission*_info.y*ml"
_SUBMISSION = "submission.py"


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


def framework(folder: Path) -> str:
    """The framework that a folder names, else that which its submission imports."""
    said = value(text(folder), "framework")
    if said in FRAMEWORKS:
        return said
    code = (folder / _SUBMISSION).read_text("utf-8", "replace")
    imported = set(re.findall(r"^\s*(?:import|from)\s+(torch|jax)\b", code, re.MULTILINE))
    return "jax" if imported == {"jax"} else "pytorch"
