"""The hyperparameters that each algorithm reads, and their possible values."""

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.cli import UserError, near
from workloads.official.facts import Model
from workloads.search_space import Point, Ranges

_NESTEROV = ("learning_rate", "one_minus_beta1", "weight_decay", "warmup_factor")
_SHARED = (*_NESTEROV[:2], "one_minus_beta2", *_NESTEROV[2:])
_COMMON = ("step_hint_factor", "budget_factor", "label_smoothing", "dropout_rate", "grad_clip")
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "shampoo": (*_SHARED, "nesterov", "refresh_interval"),
    "nadamw": _SHARED,
    "adamw": _SHARED,
    "nesterov": _NESTEROV,
}
OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "shampoo": (*(*_COMMON, "exponent", "momentum", "damping", "averaging_share"),),
    "nadamw": _COMMON,
    "adamw": _COMMON,
    "nesterov": _COMMON,
}

# Intervals as in mathematics. Factors go up to the longest budget, three times the external one.
_SHARE, _RATE, _FACTOR = "a number in (0, 1]", "a number in [0, 1)", "a number in (0, 3]"
POSSIBLE: Mapping[str, str] = {
    "learning_rate": "a number in (0, 10]",
    "one_minus_beta1": _SHARE,
    "one_minus_beta2": _SHARE,
    "weight_decay": "a number in [0, 10]",
    "warmup_factor": _RATE,
    "step_hint_factor": _FACTOR,
    "budget_factor": _FACTOR,
    "label_smoothing": _RATE,
    "dropout_rate": _RATE,
    "grad_clip": "a number in (0, inf)",
    "nesterov": "true or false",
    "refresh_interval": "an integer in [1, inf)",
    "exponent": _SHARE,
    "momentum": _RATE,
    "damping": "a number in (0, 1)",
    "averaging_share": "a number in (0, 0.5]",
}


def _is_possible(name: str, value: Any) -> bool:
    kind, _, interval = POSSIBLE[name].partition(" in ")
    if not interval or isinstance(value, bool):
        return not interval and isinstance(value, bool)
    low, high = map(float, interval[1:-1].split(","))
    above = value > low or (interval[0] == "[" and value == low)
    below = value < high or (interval[-1] == "]" and value == high)
    return above and below and (kind == "a number" or isinstance(value, int))


def check(
    space: Sequence[Point] | Ranges, algorithm: str, where: Path | str, model: Model | None = None
) -> None:
    """Refuses a space, as `workloads.search_space` reads it, that `algorithm` can't be tuned with.

    Args:
      algorithm: one of REQUIRED.
      where: the file, for messages.
      model: the tuned model, if known. Values of dropout and label smoothing that the model or its
        loss ignores are refused, since trials would differ in name only.

    Raises:
      UserError: naming the file and the key of a hyperparameter that is unknown, missing, ignored
        or has an impossible value.
    """
    if algorithm not in REQUIRED:
        raise UserError(f"unknown algorithm {algorithm!r}; known: {', '.join(REQUIRED)}")
    known = (*REQUIRED[algorithm], *OPTIONAL[algorithm])
    ignored = [] if model is None or model.smooths_labels else ["label_smoothing"]
    ignored += [] if model is None or model.dropout_rate is not None else ["dropout_rate"]
    for place, values in _values(space, str(where)):
        for name in (*values, *REQUIRED[algorithm]):
            if name not in known:
                listed = f"known: {', '.join(known)}{near(known, name)}"
                raise UserError(f"{place}: {name}: unknown to {algorithm}; {listed}")
            if name not in values:
                raise UserError(f"{place}: {name}: missing; {algorithm} needs it")
            for value in values[name]:
                if not _is_possible(name, value):
                    raise UserError(
                        f"{place}: {name}: {reprlib.repr(value)} is impossible; allowed: "
                        f"{POSSIBLE[name]}"
                    )
                if model is not None and name in ignored and value != 0:
                    raise UserError(
                        f"{place}: {name}: {value} is ignored by {model.title}; give 0 only"
                    )


def _values(
    space: Sequence[Point] | Ranges, where: str
) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """The values that each point, or all ranges together, name: of a range both ends."""
    if not isinstance(space, Mapping):
        for number, point in enumerate(space, start=1):
            yield f"{where}: point {number}", {name: [value] for name, value in point.items()}
        return
    for name in ("nesterov", "refresh_interval"):
        if "min" in space.get(name, ()):
            raise UserError(f"{where}: {name}: a range has values between; give feasible_points")
    ends = {
        name: spec.get("feasible_points") or [spec["min"], spec["max"]]
        for name, spec in space.items()
    }
    yield where, ends
