"""Learning-rate schedules in steps, with an eye on the clock."""

import dataclasses
import math
from typing import cast

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


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
        position = max(float(step), self.spent * self.total_steps)
        decayed = (position - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * min(decayed, 1.0)))


class WarmupCosineLR(LambdaLR):
    """`WarmupCosine` as a torch scheduler, to be stepped after every optimizer step.

    Args:
      optimizer: its groups' learning rates are the peaks.
      total_steps: steps until the rate is 0, at least 1.
      warmup_fraction: part of `total_steps` spent warming up, in [0, 1).
      seconds: time until the rate is 0, if that comes before `total_steps`.

    Raises:
      ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        warmup_fraction: float,
        seconds: float = math.inf,
    ) -> None:
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, got {total_steps}.")
        if not 0 <= warmup_fraction < 1:
            raise ValueError(f"warmup_fraction must be in [0, 1), got {warmup_fraction}.")
        if not seconds > 0:
            raise ValueError(f"seconds must be positive, got {seconds}.")
        self.seconds = seconds
        super().__init__(optimizer, WarmupCosine(int(warmup_fraction * total_steps), total_steps))

    def observe(self, seconds: float) -> None:
        """Tells how much time is spent, the same on all ranks; the next `step` takes account."""
        for schedule in cast(list[WarmupCosine], self.lr_lambdas):
            schedule.spent = max(schedule.spent, seconds / self.seconds)
