"""The entries under `submission/entries`: their names, modules and points on the stand-ins."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from common.cli import UserError, near
from workloads import hyperparameters, search_space
from workloads.search_space import Point, Ranges

STANDIN_POINTS = Path(__file__).parents[2] / "workloads" / "standin" / "points"
REQUIRED = ("get_batch_size", "init_optimizer_state", "update_params", "data_selection")


def _folders() -> dict[str, Path]:
    package = importlib.import_module("submission.entries")
    files = (path for root in package.__path__ for path in Path(root).glob("*/submission.py"))
    return {path.parent.name: path.parent for path in sorted(files)}


def names() -> list[str]:
    """Names of all entries, sorted."""
    return sorted(_folders())


def folder(name: str) -> Path:
    """The folder of one entry; UserError with the known names for an unknown one."""
    folders = _folders()
    if name not in folders:
        known = ", ".join(sorted(folders)) or "none"
        raise UserError(f"unknown entry {name!r}; known: {known}{near(folders, name)}")
    return folders[name]


def standin_points_file(name: str) -> Path:
    """The list of points that was chosen for an entry on the stand-ins; UserError if it has none.

    What the official benchmark tunes is in the entry's own folder.
    """
    folder(name)
    path = STANDIN_POINTS / f"{name}.json"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in STANDIN_POINTS.glob("*.json")))
        raise UserError(f"entry {name!r} has no points for stand-ins; those have: {known}")
    return path


def points(name: str, path: Path | None = None) -> list[Point]:
    """The points of an entry on the stand-ins, of a file or its own; UserError as `check_keys`."""
    path = path or standin_points_file(name)
    listed = search_space.points(path)
    check_keys(name, listed, path)
    return listed


def ranges(path: Path, names: Sequence[str]) -> dict[str, Ranges]:
    """The ranges of each entry, as `search_space.ranges_by_entry`; UserError as `check_keys`."""
    by_entry = search_space.ranges_by_entry(path, names)
    for name, of_entry in by_entry.items():
        check_keys(name, of_entry, path)
    return by_entry


def check_keys(name: str, space: Sequence[Point] | Ranges, where: Path) -> None:
    """UserError for a hyperparameter that an entry does not read or lacks, if that is known."""
    if name in hyperparameters.REQUIRED:
        hyperparameters.check(space, name, where)


def load(name: str) -> ModuleType:
    """The entry's `submission` module; UserError if it lacks a function of the API."""
    folder(name)
    module = importlib.import_module(f"submission.entries.{name}.submission")
    missing = [function for function in REQUIRED if not hasattr(module, function)]
    if missing:
        raise UserError(f"entry {name!r} lacks {', '.join(missing)} in {module.__file__}")
    return module
