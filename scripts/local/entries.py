"""The entries, under `submission/entries` or elsewhere: their names, modules and points."""

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from common.cli import UserError, near
from scripts.local import entry_info
from scripts.local.entry_info import SPACE, SUBMISSION
from workloads import hyperparameters, search_space
from workloads.search_space import Point, Ranges

STANDIN_POINTS = Path(__file__).parents[2] / "workloads" / "standin" / "points"
REQUIRED = ("get_batch_size", "init_optimizer_state", "update_params", "data_selection")
# Of entries that a command line has named by a path, by the last part of it.
_ELSEWHERE: dict[str, Path] = {}


def _folders() -> dict[str, Path]:
    package = importlib.import_module("submission.entries")
    files = (path for root in package.__path__ for path in Path(root).glob(f"*/{SUBMISSION}"))
    return {path.parent.name: path.parent for path in sorted(files)} | _ELSEWHERE


def names() -> list[str]:
    """Names of all entries, sorted."""
    return sorted(_folders())


def named(given: str) -> str:
    """The name of the entry that a command line gives: a name, or the path of a folder, with a `/`.

    The name of a path is its last part, by which all functions here know the entry from then on.

    Raises:
      UserError: for an unknown name, a folder that is no entry, or one whose name is taken or
        cannot be a module's.
    """
    if "/" not in given:
        folder(given)
        return given
    path = Path(given).expanduser().resolve()
    entry_info.check_folder(path, f"entry {given!r}")
    if (other := _folders().get(path.name, path)) != path:
        raise UserError(f"entry {given!r}: {path.name!r} is the name of the entry in {other}")
    _ELSEWHERE[path.name] = path
    return path.name


def argument(name: str) -> str:
    """What names an entry on the command line of another process."""
    return str(_ELSEWHERE.get(name, name))


def folder(name: str) -> Path:
    """The folder of one entry; UserError with the known names for an unknown one."""
    folders = _folders()
    if name not in folders:
        known = ", ".join(sorted(folders)) or "none"
        known = f"known: {known}, and folders by their path, with a /"
        raise UserError(f"unknown entry {name!r}; {known}{near(folders, name)}")
    return folders[name]


def frameworks(names: Iterable[str]) -> dict[str, str]:
    """`pytorch` or `jax` of each entry; UserError as `folder`."""
    return {name: entry_info.framework(folder(name)) for name in names}


def check_frameworks(of_entries: Mapping[str, str], asked: str | None) -> None:
    """UserError for an entry of another framework than --framework asks for, if it asks."""
    for name, framework in of_entries.items():
        if asked not in (None, framework):
            others = [other for other in names() if frameworks([other])[other] == asked]
            known = f"in {asked} there are: {', '.join(others)}{near(others, name)}"
            raise UserError(f"--framework={asked}: entry {name!r} is in {framework}; {known}")


def twin(name: str) -> str:
    """The entry whose hyperparameters an entry has: of one in JAX that without `_jax`, else itself.

    >>> twin("shampoo_jax"), twin("shampoo")
    ('shampoo', 'shampoo')
    """
    other = name.replace("_jax", "")
    return other if other in _folders() else name


def standin_points_file(name: str) -> Path:
    """The list of points that was chosen for an entry on the stand-ins; UserError if it has none.

    What the official benchmark tunes is in the entry's own folder; where that is elsewhere, it is
    for the stand-ins, too, unless the entry has a list among theirs. An entry in JAX without one
    has that of its twin.
    """
    folder(name)
    path = STANDIN_POINTS / f"{name}.json"
    if not path.exists():
        path = STANDIN_POINTS / f"{twin(name)}.json"
    if name in _ELSEWHERE and not path.exists():
        path = _ELSEWHERE[name] / SPACE
        if not path.is_file():
            raise UserError(f"entry {name!r} has no points: no {SPACE} in {path.parent}")
        return path
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in STANDIN_POINTS.glob("*.json")))
        raise UserError(f"entry {name!r} has no points for stand-ins; those have: {known}")
    return path


def points(name: str, path: Path | None = None) -> list[Point]:
    """The points of an entry on the stand-ins, of a file or its own; UserError as `check_keys`."""
    path = path or standin_points_file(name)
    listed = search_space.points(path, numbers_only=takes_numbers_only(name))
    check_keys(name, listed, path)
    return listed


def point(name: str, path: Path, trial: int) -> Point:
    """One point of a file, numbered from 1, for an entry; UserError as `check_keys`."""
    space = search_space.load(path, takes_numbers_only(name))
    check_keys(name, space, path)
    return search_space.point(space, trial, path)


def takes_numbers_only(name: str) -> bool:
    """Whether points of strings and null are refused: entries here read numbers alone."""
    return name not in _ELSEWHERE


def ranges(path: Path, names: Sequence[str]) -> dict[str, Ranges]:
    """The ranges of each entry, or of its twin; UserError as `check_keys`."""
    of_twins = search_space.ranges_by_entry(path, list(dict.fromkeys(map(twin, names))))
    by_entry = {name: of_twins[twin(name)] for name in names}
    for name, of_entry in by_entry.items():
        check_keys(name, of_entry, path)
    return by_entry


def check_keys(name: str, space: Sequence[Point] | Ranges, where: Path) -> None:
    """UserError for a hyperparameter that an entry does not read or lacks, if that is known."""
    if twin(name) in hyperparameters.REQUIRED:
        hyperparameters.check(space, twin(name), where)


def load(name: str) -> ModuleType:
    """The entry's `submission` module; UserError if it lacks a function of the API."""
    folder(name)
    package = f"submission.entries.{name}"
    if name in _ELSEWHERE and package not in sys.modules:
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(_ELSEWHERE[name])]
    module = importlib.import_module(f"{package}.submission")
    missing = [function for function in REQUIRED if not hasattr(module, function)]
    if missing:
        raise UserError(f"entry {name!r} lacks {', '.join(missing)} in {module.__file__}")
    return module
