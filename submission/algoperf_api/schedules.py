"""Learning-rate schedules in steps, with an eye on the clock; the same for every framework."""

import dataclasses
import math
from typing import Any, NamedTuple

from . import spec


@dataclasses.dataclass
class WarmupCosine:
    """Fraction of the peak learning rate at a step counted from 0.

    Rises linearly so that the first step already moves, then falls as a half cosine to 0 at
    `total_steps`, or when the time allowed is spent if that comes first, and stays there. Warming
    up goes by steps alone: the first of them may take minutes, to compile.

    Attributes:
      warmup_steps, total_steps: lengths of the rise and of the whole.
      spent: share of the time allowed that is spent, in [0, inf); never decreases.

    >>> schedule = WarmupCosine(2, 6)
    >>> [round(schedule(step), 3) for step in (0, 1, 2, 4, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    >>> round(WarmupCosine(2, 6, spent=4 / 6)(2), 3)
    0.5
    """

    warmup_steps: int
    total_steps: int
    spent: float = 0.0

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        position = max(step, self.spent * self.total_steps)
        decayed = (position - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * min(decayed, 1.0)))


class Lengths(NamedTuple):
    """How long a schedule is.

    Attributes:
      total_steps: steps until the rate is 0, at least 1.
      warmup_fraction: part of `total_steps` spent warming up, in [0, 1).
      seconds: time until the rate is 0, if that comes before `total_steps`.
    """

    total_steps: int
    warmup_fraction: float
    seconds: float = math.inf

    def schedule(self) -> WarmupCosine:
        """The schedule at its start.

        Raises:
          ValueError: if a length is out of range.

        >>> Lengths(6, 0.5).schedule().warmup_steps
        3
        """
        if self.total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, got {self.total_steps}.")
        if not 0 <= self.warmup_fraction < 1:
            raise ValueError(f"warmup_fraction must be in [0, 1), got {self.warmup_fraction}.")
        if not self.seconds > 0:
            raise ValueError(f"seconds must be positive, got {self.seconds}.")
        return WarmupCosine(int(self.warmup_fraction * self.total_steps), self.total_steps)


def lengths(workload: spec.Workload, hyperparameters: Any) -> Lengths:
    """The lengths of a point's schedule on a workload.

    Reads from `hyperparameters`: `warmup_factor`, the warm-up's part of the schedule; and, where
    present and not None, `step_hint_factor`, the schedule's length as a fraction of the workload's
    step hint (else 1), and `budget_factor`, the part of the external ruleset's time budget after
    which the schedule has ended even on machines that are slower than the hint supposes (else no
    bound).
    """
    share = getattr(hyperparameters, "step_hint_factor", None)
    budget = getattr(hyperparameters, "budget_factor", None)
    steps = int(workload.step_hint if share is None else share * workload.step_hint)
    # The budget is read only for a bound.
    seconds = math.inf if budget is None else budget * workload.max_allowed_runtime_sec
    return Lengths(steps, hyperparameters.warmup_factor, seconds)
