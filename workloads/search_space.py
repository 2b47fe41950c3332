"""Search spaces: a list of points, or ranges from which quasi-random points are drawn.

A file holds either a list of points, `[{"learning_rate": 0.001}, ...]`, or ranges,
`{"learning_rate": {"min": 1e-4, "max": 1e-2, "scaling": "log"}, "grad_clip":
{"feasible_points": [0, 1]}}`, both as in AlgoPerf.
"""

import collections
import keyword
import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import files
from common.cli import UserError, near

# Values are numbers; those of a submission of somebody else's may be strings, booleans or null.
Point = dict[str, Any]
Ranges = dict[str, dict[str, Any]]

# All draws of the project come from one sequence, so a search can be extended or repeated.
_SEQUENCE_SEED = 20260
_RANGE_KEYS = {"min", "max", "scaling", "feasible_points"}
# AlgoPerf calls a linear scale either.
_SCALINGS = ("linear", "uniform", "log")


def load(path: Path, numbers_only: bool = True) -> list[Point] | Ranges:
    """The validated content of a search space file; UserError naming the file and the key.

    Args:
      numbers_only: refuse strings and null, which no entry of this repository takes.
    """
    content = files.read_json(path)
    if isinstance(content, list):
        return check_points(content, path, numbers_only)
    return check_ranges(content, path, numbers_only)


def ranges_by_entry(path: Path, entries: Sequence[str]) -> dict[str, Ranges]:
    """The ranges of each entry from a file that holds one set for all, or one set per entry.

    UserError if the file is malformed or lacks an entry.
    """
    content = files.read_json(path)
    is_set = isinstance(content, dict) and all(isinstance(v, dict) for v in content.values())
    if is_set and not any(_RANGE_KEYS & set(value) for value in content.values()):
        missing = [entry for entry in entries if entry not in content]
        if missing:
            listed = f"it has {', '.join(content)}{near(content, missing[0])}"
            raise UserError(f"{path} has no ranges for {missing[0]!r}; {listed}")
        return {entry: check_ranges(content[entry], f"{path}: {entry}") for entry in entries}
    return dict.fromkeys(entries, check_ranges(content, path))


def points(path: Path, count: int | None = None, numbers_only: bool = True) -> list[Point]:
    """The points of a list, or the first `count` points drawn from ranges; UserError as `load`."""
    content = load(path, numbers_only)
    if isinstance(content, list):
        return content
    if count is None:
        raise UserError(f"{path} holds ranges; a list of points is needed here")
    return draw(content, count)


def point(space: list[Point] | Ranges, trial: int, where: Path) -> Point:
    """The point of one trial, numbered from 1; UserError if a list of the file is shorter."""
    if trial < 1:
        raise UserError(f"--trial={trial}: trials are numbered from 1")
    if isinstance(space, dict):
        return draw(space, trial)[-1]
    if trial > len(space):
        raise UserError(f"--trial={trial}: {where} has points 1 to {len(space)}")
    return space[trial - 1]


def as_namedtuple(values: Mapping[str, float]) -> Any:
    """The `Hyperparameters` tuple that submissions receive.

    >>> as_namedtuple({"learning_rate": 0.1})
    Hyperparameters(learning_rate=0.1)
    """
    return collections.namedtuple("Hyperparameters", values)(**values)


def draw(ranges: Ranges, count: int) -> list[Point]:
    """The first `count` points of a scrambled Halton sequence over `ranges`.

    Each draw starts the same sequence anew, so more points extend fewer points. Ranges with one
    feasible point take no dimension of the sequence.

    >>> ranges = {"a": {"min": 1e-3, "max": 1.0, "scaling": "log"}, "b": {"feasible_points": [2]}}
    >>> few, many = draw(ranges, 2), draw(ranges, 5)
    >>> few == many[:2], many[0]["b"]
    (True, 2)
    """
    from scipy.stats import qmc

    free = [name for name in sorted(ranges) if len(ranges[name].get("feasible_points", "ab")) > 1]
    sequence = qmc.Halton(d=max(len(free), 1), scramble=True, rng=_SEQUENCE_SEED).random(count)
    dimension = {name: index for index, name in enumerate(free)}
    return [
        {
            name: _value(spec, float(row[dimension[name]]) if name in dimension else 0.0)
            for name, spec in ranges.items()
        }
        for row in sequence
    ]


def _value(spec: Mapping[str, Any], unit: float) -> Any:
    if "feasible_points" in spec:
        feasible: list[Any] = spec["feasible_points"]
        return feasible[int(unit * len(feasible))]
    low, high = float(spec["min"]), float(spec["max"])
    if spec["scaling"] != "log":
        return low + unit * (high - low)
    return math.exp(math.log(low) + unit * (math.log(high) - math.log(low)))


def check_points(content: list[Any], where: Path | str, numbers_only: bool = True) -> list[Point]:
    """`content` if it is a list of points; UserError otherwise."""
    if not content:
        raise UserError(f"{where}: the list of points is empty")
    for index, candidate in enumerate(content, start=1):
        if not isinstance(candidate, dict) or not candidate:
            raise UserError(f"{where}: point {index} must be an object of hyperparameters")
        for name, value in candidate.items():
            _check_name(name, where)
            if not _is_allowed(value, numbers_only):
                raise UserError(
                    f"{where}: point {index}: {name} is {reprlib.repr(value)}, "
                    f"not {_allowed(numbers_only)}"
                )
    return content


def check_ranges(content: Any, where: Path | str, numbers_only: bool = True) -> Ranges:
    """`content` if it maps names to ranges; UserError otherwise."""
    if not isinstance(content, dict) or not content:
        raise UserError(f"{where}: must hold a list of points or an object of ranges")
    for name, spec in content.items():
        _check_name(name, where)
        problem = _range_problem(spec, numbers_only)
        if problem:
            raise UserError(f"{where}: {name}: {problem}")
    return content


def _range_problem(spec: Any, numbers_only: bool) -> str:
    if not isinstance(spec, dict):
        return "must be {min, max, scaling} or {feasible_points}"
    if "feasible_points" in spec:
        if set(spec) != {"feasible_points"}:
            wrong = set(spec) - {"feasible_points"}
            return f"unknown key {min(wrong)!r} beside feasible_points"
        feasible = spec["feasible_points"]
        if not isinstance(feasible, list) or not feasible:
            return "feasible_points must be a list with at least one number"
        bad = [value for value in feasible if not _is_allowed(value, numbers_only)]
        allowed = _allowed(numbers_only)
        return f"feasible point {reprlib.repr(bad[0])} is not {allowed}" if bad else ""
    expected = {"min", "max", "scaling"}
    if set(spec) != expected:
        wrong = set(spec) - expected
        if wrong:
            return f"unknown key {min(wrong)!r}{near(_RANGE_KEYS, min(wrong))}"
        return f"lacks {min(expected - set(spec))!r}"
    low, high, scaling = spec["min"], spec["max"], spec["scaling"]
    for key in ("min", "max"):
        if not _is_number(spec[key]):
            return f"{key} is {reprlib.repr(spec[key])}, not a finite number"
    if scaling not in _SCALINGS:
        return f"scaling is {reprlib.repr(scaling)}; allowed: {', '.join(_SCALINGS)}"
    if low >= high:
        return f"min {low} must be below max {high}"
    if scaling == "log" and low <= 0:
        return f"min {low} must be above 0 with log scaling"
    return ""


def _check_name(name: str, where: Path | str) -> None:
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise UserError(f"{where}: {name!r} cannot be the name of a hyperparameter")


def _is_allowed(value: Any, numbers_only: bool) -> bool:
    return _is_number(value) or (not numbers_only and (value is None or isinstance(value, str)))


def _allowed(numbers_only: bool) -> str:
    return "a finite number" if numbers_only else "a finite number, a string, a boolean or null"


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False
