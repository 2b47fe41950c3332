"""What a tuning point may hold: the hyperparameters of each algorithm, and their possible values.

A search space is right when a file of it has been through `workloads.search_space`, which knows
ranges, and through `check`, which knows what they are of.
"""

import dataclasses
import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from common.cli import UserError
from workloads.official.models import Model
from workloads.search_space import Point, Ranges


@dataclasses.dataclass(frozen=True)
class Domain:
    """The possible values of a hyperparameter: from `low` to `high`, which are among them or not.

    An integer or a boolean is drawn from a list, since a range holds values between.
    """

    low: float = 0.0
    high: float = math.inf
    holds_low: bool = True
    holds_high: bool = False
    kind: Literal["number", "integer", "boolean"] = "number"

    def __str__(self) -> str:
        if self.kind == "boolean":
            return "true or false"
        kind = "an integer" if self.kind == "integer" else "a number"
        left, right = "[" if self.holds_low else "(", "]" if self.holds_high else ")"
        return f"{kind} in {left}{self.low:g}, {self.high:g}{right}"

    def __contains__(self, value: float) -> bool:
        if self.kind == "boolean" or isinstance(value, bool):
            return self.kind == "boolean" and isinstance(value, bool)
        if self.kind == "integer" and not isinstance(value, int):
            return False
        above = value >= self.low if self.holds_low else value > self.low
        return above and (value <= self.high if self.holds_high else value < self.high)


_POSITIVE_SHARE = Domain(0, 1, holds_low=False, holds_high=True)
_RATE = Domain(0, 1)
DOMAINS: Mapping[str, Domain] = MappingProxyType(
    {
        "learning_rate": Domain(0, 10, holds_low=False, holds_high=True),
        "one_minus_beta1": _POSITIVE_SHARE,
        "one_minus_beta2": _POSITIVE_SHARE,
        "weight_decay": Domain(0, 10, holds_high=True),
        "warmup_factor": _RATE,
        # Up to the longest budget, three times the external one (self-tuning, v0.5).
        "step_hint_factor": Domain(0, 3, holds_low=False, holds_high=True),
        "budget_factor": Domain(0, 3, holds_low=False, holds_high=True),
        "label_smoothing": _RATE,
        "dropout_rate": _RATE,
        "grad_clip": Domain(0, holds_low=False),
        "nesterov": Domain(kind="boolean"),
        "refresh_interval": Domain(1, kind="integer"),
        "exponent": _POSITIVE_SHARE,
        "momentum": _RATE,
    }
)

_SHARED = ("learning_rate", "one_minus_beta1", "one_minus_beta2", "weight_decay", "warmup_factor")
REQUIRED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "shampoo": (*_SHARED, "nesterov", "refresh_interval"),
        "nadamw": _SHARED,
        "adamw": _SHARED,
    }
)
# Read by every entry where they are given, and by one.
_COMMON = ("step_hint_factor", "budget_factor", "label_smoothing", "dropout_rate", "grad_clip")
OPTIONAL: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"shampoo": (*_COMMON, "exponent", "momentum"), "nadamw": _COMMON, "adamw": _COMMON}
)


def check(
    space: Sequence[Point] | Ranges, algorithm: str, where: Path | str, model: Model | None = None
) -> None:
    """Refuses a space that `algorithm` cannot be tuned with.

    Args:
      space: points or ranges that `workloads.search_space` has read.
      algorithm: one of REQUIRED.
      where: the file, for messages.
      model: what it is tuned on, if that is known. Values of dropout and label smoothing that the
        model or its loss ignores are refused, since trials would differ in name only.

    Raises:
      UserError: naming the file and the key of a hyperparameter that is unknown, missing, ignored
        or has an impossible value.
    """
    if algorithm not in REQUIRED:
        raise UserError(f"unknown algorithm {algorithm!r}; known: {', '.join(REQUIRED)}")
    known = (*REQUIRED[algorithm], *OPTIONAL[algorithm])
    candidates: Sequence[Mapping[str, object]] = (
        [space] if isinstance(space, Mapping) else list(space)
    )
    for number, names in enumerate(candidates, start=1):
        place = f"{where}" if isinstance(space, Mapping) else f"{where}: point {number}"
        for name in names:
            if name not in known:
                raise UserError(
                    f"{place}: {name}: unknown to {algorithm}; known: {', '.join(known)}"
                )
        for name in REQUIRED[algorithm]:
            if name not in names:
                raise UserError(f"{place}: {name}: missing; {algorithm} needs it")
    for place, name, value in _values(space, where):
        if value not in DOMAINS[name]:
            given = reprlib.repr(value)
            raise UserError(f"{place}: {name}: {given} is impossible; allowed: {DOMAINS[name]}")
        if model is not None and value != 0 and name in _ignored(model):
            raise UserError(f"{place}: {name}: {value} is ignored by {model.title}; give 0 only")


def _ignored(model: Model) -> set[str]:
    ignored = set() if model.smooths_labels else {"label_smoothing"}
    return ignored | ({"dropout_rate"} if model.dropout_rate is None else set())


def _values(space: Sequence[Point] | Ranges, where: Path | str) -> Iterator[tuple[str, str, float]]:
    """Every value that a space names: a point's, a list's, and both ends of a range."""
    if not isinstance(space, Mapping):
        for number, point in enumerate(space, start=1):
            for name, value in point.items():
                yield f"{where}: point {number}", name, value
        return
    for name, spec in space.items():
        if "feasible_points" not in spec and DOMAINS[name].kind != "number":
            raise UserError(
                f"{where}: {name}: a range has values between; give feasible_points, each "
                f"{DOMAINS[name]}"
            )
        for value in spec.get("feasible_points", [spec.get("min"), spec.get("max")]):
            yield str(where), name, value
