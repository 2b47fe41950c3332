"""Writes an entry as the folder that the organisers of the benchmark run.

    python -m scripts.package_entry --entry=shampoo --authors="A. Person" --output=dist
    cd <checkout of the benchmark>
    PYTHONPATH=<here>/dist python submission_runner.py \\
        --submission_path=submissions/external_tuning/stacked_shampoo/submission.py ...

The folder has the layout of the repository mlcommons/submissions_algorithms, a clone of which may
be the output. `implementation/` in it is a byte for byte copy of the modules of `submission/` that
the entry imports; the folder imports nothing else of this repository. The same commit writes the
same bytes. The block that a pull request must hold is printed.
"""

import ast
import dataclasses
import hashlib
import importlib.util
import json
import posixpath
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from absl import flags

from common import cli, files
from common.cli import UserError
from scripts.local import entries, environment
from scripts.local.entry_info import INFO, SPACE, SUBMISSION
from scripts.official.entry import require_same_names
from workloads import rulesets, search_space
from workloads.official.facts import NEWEST

FLAGS = flags.FLAGS

MANIFEST, README = "MANIFEST.json", "README.md"
# No module of the standard library, in case the folder itself is on Python's path.
COPY = "implementation"
_PROJECT = "submission"
_ROOMS = frozenset({"analysis", "common", "scripts", "submission", "tests", "workloads"})
_SUBMISSION = f'''"""AlgoPerf's functions of the entry `{{entry}}`, whose code is in `{COPY}`."""

from .{COPY}.entries.{{entry}}.submission import data_selection, get_batch_size
from .{COPY}.entries.{{entry}}.submission import init_optimizer_state, prepare_for_eval
from .{COPY}.entries.{{entry}}.submission import update_params
'''
# A link of Markdown to a file: its text and its path.
_LINK = re.compile(r"\[([^\]]*)\]\((?!#|\w+:)([^)#]*)[^)]*\)")
# Installed by the benchmark itself (commit 2c90454f).
_PROVIDED = frozenset(
    {"absl", "algoperf", "chex", "flax", "jax", "numpy", "optax", "pandas", "torch"}
)

# As in the files submission_info.yml of mlcommons/submissions_algorithms (seen in June 2026). The
# folder may be of another name than the entry, so that it takes no published submission's.
_INFO_KEYS = (
    *("submission_name", "submission_folder", "authors", "affiliations", "version", "ruleset"),
    *("framework", "description"),
)
# Where its README wants a pull request.
REPOSITORY, BRANCH = "mlcommons/submissions_algorithms", "evaluation"
_FOLDERS = {"external": "external_tuning", "self-tuning": "self_tuning"}
_ALLOWED = {"ruleset": tuple(_FOLDERS), "framework": ("PyTorch", "JAX")}


@dataclasses.dataclass(frozen=True)
class Package:
    """One entry as the organisers get it.

    Attributes:
      home: folder below the repository of submissions or a checkout of the benchmark.
      contents: bytes of each file but the manifest, by path below `home`, sorted.
    """

    home: str
    contents: Mapping[str, bytes]


def define_flags() -> None:
    """Declares the command line."""
    known = ", ".join(packable(environment.ROOT))
    flags.DEFINE_string("entry", None, f"one of {known}")
    flags.DEFINE_string("output", "dist", "folder that `submissions/` is written to")
    flags.DEFINE_string("authors", None, "instead of those in the entry's submission_info.yml")
    flags.DEFINE_string("affiliations", None, "instead of those in the entry's submission_info.yml")
    flags.DEFINE_bool("overwrite", False, "replace a folder even if this did not write it")


def main(argv: Sequence[str]) -> None:
    """Writes the package; prints the runner's flags and the block for the pull request."""
    del argv
    if not FLAGS.entry:
        raise UserError(f"--entry is missing; known: {', '.join(packable(environment.ROOT))}")
    people = {"authors": FLAGS.authors, "affiliations": FLAGS.affiliations}
    package = compose(environment.ROOT, FLAGS.entry, **people)
    facts = environment.describe()
    record = {
        "entry": FLAGS.entry,
        "module": module_of(FLAGS.entry),
        **{key: facts[key] for key in ("git_commit_hash", "git_dirty")},
    }
    folder = write(package, Path(FLAGS.output), record, FLAGS.overwrite)
    print(f"{folder}: {len(package.contents) + 1} files")
    print(f"for the runner, with PYTHONPATH={Path(FLAGS.output).absolute()}:")
    print(f"  --submission_path={package.home}/{SUBMISSION}")
    if SPACE in package.contents:
        print(f"  --tuning_search_space={folder.absolute()}/{SPACE}")
    else:
        print("  --tuning_ruleset=self")
    print(f"for the pull request to the branch `{BRANCH}` of {REPOSITORY},")
    print("whose title must hold [submission]:")
    # The organisers' workflow puts `submissions/` before its folder.
    block = package.contents[INFO].decode().replace(": submissions/", ": ", 1)
    print(f"```yaml\n{block}```")


def module_of(entry: str) -> str:
    """The name of an entry's module in this repository."""
    return f"{_PROJECT}.entries.{entry}.submission"


def packable(root: Path) -> list[str]:
    """Names of the entries below `root` that have a submission_info.yml, sorted."""
    return sorted(path.parent.name for path in root.glob(f"{_PROJECT}/entries/*/{INFO}"))


def compose(root: Path, entry: str, **overrides: str | None) -> Package:
    """The package of an entry of the repository at `root`.

    Args:
      overrides: values that replace those of the entry's submission_info.yml, unless None.

    Raises:
      UserError: for an entry that cannot be packaged, naming the file at fault.
    """
    if entry not in packable(root):
        known = packable(root)
        listed = f"{', '.join(known) or 'none'}{cli.near(known, entry)}"
        folder = root / _PROJECT / "entries" / entry
        reason = f"it has no {INFO}" if folder.is_dir() else "there is none of that name"
        raise UserError(f"entry {entry!r} cannot be packaged: {reason}; can be: {listed}")
    folder = root / _PROJECT / "entries" / entry
    info = read_info(folder / INFO, **overrides)
    ruleset, home = info["ruleset"], info["submission_folder"]
    if ruleset == "external":
        space = search_space.load(folder / SPACE)
        entries.check_keys(entry, space, folder / SPACE)
        if isinstance(space, list):
            require_same_names(space, folder / SPACE)
            most = rulesets.ruleset(NEWEST, ruleset).trials
            if len(space) > most:
                problem = f"{len(space)} points; the {ruleset} ruleset runs {most}"
                raise UserError(f"{folder / SPACE}: {problem}")
    elif (folder / SPACE).exists():
        raise UserError(f"{folder / SPACE}: an entry of the {ruleset} ruleset has no search space")
    paths, installed = imports(root, module_of(entry))
    contents = {
        **{f"{COPY}/{path.relative_to(root / _PROJECT)}": path.read_bytes() for path in paths},
        "__init__.py": b"",
        SUBMISSION: _SUBMISSION.format(entry=entry).encode(),
        INFO: yaml.safe_dump(info, sort_keys=False, allow_unicode=True, width=10**6).encode(),
        "requirements.txt": _requirements(root / "requirements.txt", installed).encode(),
        "LICENSE": (root / "LICENSE").read_bytes(),
    }
    if (folder / SPACE).exists():
        contents[SPACE] = (folder / SPACE).read_bytes()
    if (folder / README).exists():
        text = (folder / README).read_text("utf-8")
        contents[README] = _without_links(text, folder.relative_to(root)).encode()
    return Package(home, dict(sorted(contents.items())))


def _without_links(text: str, folder: Path) -> str:
    """Markdown in which links to files name them instead: a copy leads elsewhere.

    Args:
      folder: of the text, relative to the repository, as the names of the files are then.

    >>> _without_links("See [the table](../a.md#b), [MIT](https://c.d).", Path("e/f"))
    'See the table, `e/a.md`, [MIT](https://c.d).'
    """

    def named(link: re.Match[str]) -> str:
        return f"{link[1]}, `{posixpath.normpath(posixpath.join(folder.as_posix(), link[2]))}`"

    return _LINK.sub(named, text)


def imports(root: Path, start: str) -> tuple[list[Path], dict[str, Path]]:
    """Follows the imports of module `start`, those in functions and for type checkers too.

    Imports in an `except` block are not followed: they replace what the benchmark installs.

    Returns:
      The files of the reached modules and of the packages above them, sorted; and each top-level
      package that has to be installed, with a file that imports it.

    Raises:
      UserError: naming file and line of an import that fails in a copy.
    """
    paths: dict[str, Path] = {}
    installed: dict[str, Path] = {}
    pending = [(start, str(root))]
    while pending:
        name, importer = pending.pop()
        path = paths.get(name) or _file(root, name)
        if path is None:
            raise UserError(f"{importer}: there is no module {name}")
        if name in paths:
            continue
        paths[name] = path
        parent = name.rpartition(".")[0]
        if parent:  # Python runs it first
            pending.append((parent, importer))
        package = name if path.name == "__init__.py" else parent
        fallbacks: set[ast.AST] = set()
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ExceptHandler):
                fallbacks.update(ast.walk(node))
            if node in fallbacks or not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            where = f"{path}:{node.lineno}"
            names = [alias.name for alias in node.names]
            relative = isinstance(node, ast.ImportFrom) and node.level > 0
            if isinstance(node, ast.ImportFrom):
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                below = (f"{base}.{name}" for name in names)
                names = [base, *(name for name in below if relative and _file(root, name))]
            for needed in names:
                top = needed.partition(".")[0]
                if relative:
                    pending.append((needed, where))
                elif top in _ROOMS:
                    raise UserError(f"{where}: a package has no {needed}; import it relatively")
                elif top not in sys.stdlib_module_names:
                    installed[top] = path
    return sorted(paths.values()), dict(sorted(installed.items()))


def _file(root: Path, module: str) -> Path | None:
    stem = root.joinpath(*module.split("."))
    paths = (stem.with_name(f"{stem.name}.py"), stem / "__init__.py")
    return next((path for path in paths if path.is_file()), None)


def _requirements(pins: Path, installed: Mapping[str, Path]) -> str:
    """The versions, as this repository pins them, of what the benchmark does not install."""
    lines = []
    for name, importer in installed.items():
        if name in _PROVIDED:
            continue
        pattern = rf"^{re.escape(name)}==\S+"
        pin = re.search(pattern, pins.read_text("utf-8"), re.MULTILINE | re.IGNORECASE)
        if pin is None:
            raise UserError(f"{pins} pins no version of {name}, which {importer} imports")
        lines.append(f"{pin[0]}\n")
    heading = "Beside" if lines else "Nothing beside"
    return "".join([f"# {heading} what the benchmark installs.\n", *lines])


def read_info(path: Path, **overrides: str | None) -> dict[str, str]:
    """The validated content of a submission_info.yml; UserError naming the file and the key."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold the keys {', '.join(_INFO_KEYS)}")
    info = content | {key: value for key, value in overrides.items() if value is not None}
    for key in [*info, *_INFO_KEYS]:
        if problem := _info_problem(info, key):
            raise UserError(f"{path}: {key}: {problem}")
    return {key: info[key] for key in _INFO_KEYS}


def _info_problem(info: Mapping[str, Any], key: str) -> str:
    if key not in _INFO_KEYS:
        return f"unknown; known: {', '.join(_INFO_KEYS)}{cli.near(_INFO_KEYS, key)}"
    if key not in info:
        return "missing"
    value = info[key]
    if not isinstance(value, str):
        return f"{value!r} is no text; put it in quotes"
    if not value.strip() and key != "affiliations":
        return "empty"
    # The organisers' workflow reads a pull request's values line by line, each up to the first #.
    if "\n" in value or "#" in value:
        return "must be one line without #"
    if value not in _ALLOWED.get(key, [value]):
        return f"{value!r}; allowed: {', '.join(_ALLOWED[key])}"
    if key == "submission_folder" and info.get("ruleset") in _FOLDERS:
        above = f"submissions/{_FOLDERS[info['ruleset']]}/"
        name = value.removeprefix(above)
        if name == value or not name.isidentifier() or name != name.lower():
            return f"{value!r} is not {above} and a name in small letters that Python can import"
    return ""


def write(package: Package, output: Path, record: Mapping[str, Any], overwrite: bool) -> Path:
    """Writes the package below `output`, entirely or not at all; returns its folder.

    Args:
      record: entries of the manifest beside the hashes of the files.
      overwrite: replace any folder there. Otherwise only a package is replaced, and only if its
        files are those that were written.

    Raises:
      UserError: for a folder that must not be replaced or cannot be written.
    """
    folder = output / package.home
    if folder.exists() and not overwrite and (problem := _foreign(folder)):
        raise UserError(f"{folder} {problem}; --overwrite replaces it")
    files.make_directory(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        for name, data in package.contents.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(data)
        files.write_json(new / MANIFEST, {**record, "sha256": _hashes(package.contents)})
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    return folder


def contents_of(folder: Path) -> dict[str, bytes]:
    """Bytes of each file of a folder by its path, less the manifest and Python's caches."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in paths
        if "__pycache__" not in path.parts and path != folder / MANIFEST
    }


def _hashes(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}


def _foreign(folder: Path) -> str:
    """Why a folder is not a package as it was written; empty if it is."""
    if not (folder / MANIFEST).is_file():
        return f"is there and has no {MANIFEST}"
    try:
        written = json.loads((folder / MANIFEST).read_bytes())["sha256"]
    except (ValueError, TypeError, KeyError):
        return f"has a damaged {MANIFEST}"
    present = _hashes(contents_of(folder))
    changed = [name for name in written.keys() | present if written.get(name) != present.get(name)]
    return f"has been changed in {min(changed)}" if changed else ""


if __name__ == "__main__":
    define_flags()
    cli.run(main, may_be_empty=["affiliations"])
