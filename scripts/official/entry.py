"""Entries for the official runner: those of this repository, or folders anywhere."""

import dataclasses
import json
import re
from pathlib import Path

from common.cli import UserError
from scripts.local import entries, entry_info
from scripts.local.entry_info import INFO, SPACE, SUBMISSION
from scripts.local.environment import ROOT
from scripts.official import imports
from scripts.official.installation import default_checkout
from workloads import search_space
from workloads.official.datasets import FRAMEWORKS
from workloads.search_space import Point

_FOLDER = re.compile(r"^submission_folder:.*?(\w+)/?['\"]?\s*$", re.MULTILINE)
LAUNCHER = Path(__file__).with_name("launcher") / "aliased_submission.py"
RULESETS = ("external", "self_tuning")
_NAME = re.compile(r"\w[\w.-]*")


@dataclasses.dataclass(frozen=True)
class OfficialEntry:
    """An entry, as the runner's flags describe it.

    Attributes:
      name: of the submission in the logs; of an entry of this repository that of its package, by
        which the published winner, `shampoo`, keeps logs of its own.
      python_path: the folder that the runner's Python imports from.
      submission_path: of its submission.py, relative to `python_path`: the runner makes a module's
        name of it by replacing `/` with `.`.
      space: its own list of points, or ranges; None for a self-tuning entry.
      framework: `pytorch` or `jax`.
      places: further places that its files import each other from.
    """

    name: str
    python_path: Path
    submission_path: str
    space: Path | None
    framework: str = "pytorch"
    places: imports.Places = imports.NO_PLACES

    @property
    def ruleset(self) -> str:
        """`external` or `self_tuning`, as in `workloads.rulesets`."""
        return "self_tuning" if self.space is None else "external"

    @property
    def runner_path(self) -> str:
        """The runner's --submission_path: the submission's, or that of what gives it its names."""
        return LAUNCHER.name if self.places.aliases else self.submission_path

    @property
    def import_paths(self) -> list[Path]:
        """The folders that the runner's Python imports it from."""
        launcher = [LAUNCHER.parent] if self.places.aliases else []
        return list(dict.fromkeys([*launcher, self.python_path, *self.places.paths]))

    @property
    def variables(self) -> dict[str, str]:
        """What `launcher/aliased_submission.py` reads; empty if it is not needed."""
        if not self.places.aliases:
            return {}
        return {
            "SUBMISSION_MODULE": self.submission_path.removesuffix(".py").replace("/", "."),
            "SUBMISSION_ALIASES": json.dumps(dict(self.places.aliases)),
        }

    @property
    def has_ranges(self) -> bool:
        """Whether its points are to be drawn."""
        if self.space is None:
            return False
        return isinstance(search_space.load(self.space, self.python_path == ROOT), dict)

    def points(self, count: int = 5) -> list[Point]:
        """Its own points, or `count` drawn from its ranges; one without hyperparameters if none.

        UserError as `points_of`, and for ranges of an entry of this repository.
        """
        if self.space is None:
            return [{}]
        return self.points_of(self.space, None if self.python_path == ROOT else count)

    def points_of(self, space: Path, count: int | None) -> list[Point]:
        """The points of a file for this entry, or `count` drawn from its ranges.

        UserError as `search_space.points`, `require_same_names` and, of an entry of this
        repository, as `entries.check_keys`.
        """
        is_here = self.python_path == ROOT
        points = search_space.points(space, count, numbers_only=is_here)
        if is_here:
            entries.check_keys(Path(self.submission_path).parent.name, points, space)
        return require_same_names(points, space)


def find_entry(
    given: str, ruleset: str | None = None, framework: str | None = None
) -> OfficialEntry:
    """The entry that a command line names: a folder of submission/entries, or a path.

    Args:
      given: a name, a path, or `name=path` for another name in the logs than the folder's.
      ruleset: of RULESETS; None for what the folder says.
      framework: `pytorch` or `jax`; None likewise.

    Raises:
      UserError: for an unknown name, a folder that is no entry, one whose name Python cannot import
        beside the benchmark, or one that has no points and does not say that it tunes itself, or
        says another ruleset or framework.
    """
    name, equals, path = given.rpartition("=")
    if equals and not _NAME.fullmatch(name):
        allowed = "letters, digits and _ can, and from the second sign on . and -"
        raise UserError(f"--entry={given}: {name!r} cannot be a name: {allowed}")
    if equals and "/" not in path:
        raise UserError(f"--entry={given}: {path!r} is no path; give name=path/to/a/folder")
    if "/" in path:
        folder = Path(path).expanduser().absolute()
        _check(given, folder)
    else:
        folder = entries.folder(path)
    root = folder.parent
    if folder.resolve().parent == ROOT / "submission" / "entries":  # which imports from above it
        folder, root = folder.resolve(), ROOT
    info = entry_info.text(folder)
    for flag, value in (("ruleset", ruleset), ("framework", framework)):
        said = entry_info.value(info, flag).replace("self-tuning", "self_tuning")
        if value is not None and said in (*RULESETS, *FRAMEWORKS) and said != value:
            raise UserError(f"--{flag}={value}: {folder / INFO} says {said}")
    ruleset = ruleset or _ruleset(info, folder)
    if ruleset is None or (ruleset == "external" and not (folder / SPACE).is_file()):
        raise UserError(
            f"--entry={given}: {folder} has no {SPACE}, and no {INFO} with `ruleset: self-tuning`; "
            "--ruleset=self_tuning (RULESET=self_tuning) says that it tunes itself"
        )
    return OfficialEntry(
        name=name or (_packaged_name(folder) if root == ROOT else folder.name),
        python_path=root,
        submission_path=(folder / SUBMISSION).relative_to(root).as_posix(),
        space=folder / SPACE if ruleset == "external" else None,
        framework=framework or entry_info.framework(folder),
        places=imports.NO_PLACES if root == ROOT else imports.places(folder, SUBMISSION),
    )


def _packaged_name(folder: Path) -> str:
    """The name of the folder that an entry of this repository is handed in as."""
    info = folder / INFO
    packaged = _FOLDER.search(info.read_text("utf-8")) if info.is_file() else None
    return packaged[1] if packaged else folder.name


def _check(given: str, folder: Path) -> None:
    """UserError unless the benchmark can import a folder as a submission."""
    entry_info.check_folder(folder, f"--entry={given}")
    if (default_checkout() / folder.name).exists():
        raise UserError(f"--entry={given}: the benchmark has a {folder.name!r} of its own")


def _ruleset(info: str, folder: Path) -> str | None:
    """The ruleset that a folder is for; None if it does not say and has no points."""
    said = entry_info.value(info, "ruleset")
    if said.startswith("self"):
        return "self_tuning"
    return "external" if said.startswith("external") or (folder / SPACE).is_file() else None


def require_same_names(points: list[Point], where: Path | str) -> list[Point]:
    """`points`, if all name the same hyperparameters, as the runner needs; else UserError."""
    for number, point in enumerate(points, start=1):
        if odd := sorted(point.keys() ^ points[0].keys()):
            raise UserError(f"{where}: point {number} and point 1 differ in {odd[0]!r}")
    return points
