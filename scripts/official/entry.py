"""Entries for the official runner: those of this repository, or packaged folders anywhere."""

import dataclasses
import re
from pathlib import Path

from common.cli import UserError
from scripts.local import entries
from scripts.local.environment import ROOT
from scripts.official.installation import default_checkout
from workloads import search_space
from workloads.search_space import Point

SUBMISSION = "submission.py"
SPACE = "tuning_search_space.json"
INFO = "submission_info.yml"
_FOLDER = re.compile(r"^submission_folder:.*?(\w+)/?['\"]?\s*$", re.MULTILINE)
_SELF_TUNING = re.compile(r"^ruleset:\s*['\"]?self", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class OfficialEntry:
    """An entry, as the runner's flags describe it.

    Attributes:
      name: of the submission in the logs; of an entry of this repository that of its package, by
        which the published winner, `shampoo`, keeps logs of its own.
      python_path: the folder that the runner's Python imports from.
      submission_path: of its submission.py, relative to `python_path`: the runner makes a module's
        name of it by replacing `/` with `.`.
      space: its own list of points; None for a self-tuning entry.
    """

    name: str
    python_path: Path
    submission_path: str
    space: Path | None

    @property
    def ruleset(self) -> str:
        """`external` or `self_tuning`, as in `workloads.rulesets`."""
        return "self_tuning" if self.space is None else "external"

    def points(self) -> list[Point]:
        """Its own points; one without hyperparameters for a self-tuning entry.

        UserError as `require_same_names` and, of an entry of this repository, as
        `entries.check_keys`, and for ranges.
        """
        if self.space is None:
            return [{}]
        points = require_same_names(search_space.points(self.space), self.space)
        if self.python_path == ROOT:
            entries.check_keys(self.space.parent.name, points, self.space)
        return points


def find_entry(given: str) -> OfficialEntry:
    """The entry that a command line names: a folder of submission/entries, or a path.

    Raises:
      UserError: for an unknown name, a folder that is no entry, one whose name Python cannot import
        beside the benchmark, or one that has no points and does not say that it tunes itself.
    """
    if "/" not in given:
        folder, root = entries.folder(given), ROOT
    else:
        folder = Path(given).expanduser().absolute()
        root = folder.parent
        if not (folder / SUBMISSION).is_file():
            raise UserError(f"--entry={given}: no {SUBMISSION} in {folder}")
        if not folder.name.isidentifier():
            raise UserError(f"--entry={given}: {folder.name!r} cannot be the name of a module")
        if (default_checkout() / folder.name).exists():
            raise UserError(f"--entry={given}: the benchmark has a {folder.name!r} of its own")
    space, info = folder / SPACE, folder / INFO
    tunes_itself = info.is_file() and _SELF_TUNING.search(info.read_text("utf-8"))
    if not space.is_file() and not tunes_itself:
        raise UserError(
            f"--entry={given}: {folder} has no {SPACE}, and no {INFO} with `ruleset: self-tuning`"
        )
    return OfficialEntry(
        name=_packaged_name(folder) if root == ROOT else folder.name,
        python_path=root,
        submission_path=(folder / SUBMISSION).relative_to(root).as_posix(),
        space=space if space.is_file() else None,
    )


def _packaged_name(folder: Path) -> str:
    """The name of the folder that an entry of this repository is handed in as."""
    info = folder / INFO
    packaged = _FOLDER.search(info.read_text("utf-8")) if info.is_file() else None
    return packaged[1] if packaged else folder.name


def require_same_names(points: list[Point], where: Path | str) -> list[Point]:
    """`points`, if all name the same hyperparameters, as the runner needs; else UserError."""
    for number, point in enumerate(points, start=1):
        if odd := sorted(point.keys() ^ points[0].keys()):
            raise UserError(f"{where}: point {number} and point 1 differ in {odd[0]!r}")
    return points
