"""Search spaces of the official workloads, for tuning studies: `<workload>/<algorithm>.json`.

The external ruleset forbids a submission to hold them: its own points are the same for all
workloads (`submission/entries/*/tuning_search_space.json`). README.md argues the ranges.

>>> drawn = draw("fastmri_tanh", "nadamw", 3)
>>> drawn == draw("fastmri", "nadamw", 5)[:3], drawn[0]["label_smoothing"]
(True, 0.0)
"""

from pathlib import Path

from common.cli import UserError, near
from workloads import hyperparameters, registry, search_space
from workloads.search_space import Point, Ranges

ROOT = Path(__file__).parent
ALGORITHMS = ("shampoo", "nadamw", "adamw")
# By the names under which entries are handed in.
_ALGORITHM = {"stacked_shampoo": "shampoo"}


def workloads() -> list[str]:
    """The base workloads that have search spaces, in the registry's order."""
    return [name for name in registry.names("official") if (ROOT / name).is_dir()]


def path(workload: str, algorithm: str) -> Path:
    """The file of a workload, which is its base's for a variant.

    UserError for an unknown workload or algorithm, or one without a search space.
    """
    base = registry.official(workload).base_name
    algorithm = _ALGORITHM.get(algorithm, algorithm)
    if algorithm not in ALGORITHMS:
        listed = f"known: {', '.join(ALGORITHMS)}{near(ALGORITHMS, algorithm)}"
        raise UserError(f"unknown algorithm {algorithm!r}; {listed}")
    file = ROOT / base / f"{algorithm}.json"
    if not file.exists():
        raise UserError(f"{workload} has no search space; those have: {', '.join(workloads())}")
    return file


def load(workload: str, algorithm: str) -> list[Point] | Ranges:
    """A validated search space: points, or ranges to draw from.

    Args:
      workload: official; what its model ignores may not be tuned.
      algorithm: one of ALGORITHMS.

    Raises:
      UserError: as `path`, or naming the file and the key that is wrong.
    """
    file = path(workload, algorithm)
    space = search_space.load(file)
    hyperparameters.check(space, file.stem, file, registry.official(workload).model)
    return space


def draw(workload: str, algorithm: str, count: int) -> list[Point]:
    """The first `count` points of `load`: always the same, and the start of those of a larger draw.

    UserError as `load`, and for a list of fewer points.
    """
    space = load(workload, algorithm)
    if isinstance(space, dict):
        return search_space.draw(space, count)
    if count > len(space):
        raise UserError(f"{path(workload, algorithm)} has {len(space)} points, not {count}")
    return space[:count]
