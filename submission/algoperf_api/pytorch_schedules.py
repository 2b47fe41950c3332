"""The schedule as a torch scheduler."""

import math
from typing import cast

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from .schedules import Lengths, WarmupCosine


class WarmupCosineLR(LambdaLR):
    """`WarmupCosine`, to be stepped after every optimizer step.

    Args:
      optimizer: its groups' learning rates are the peaks.
      total_steps, warmup_fraction, seconds: see `Lengths`.

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
        schedule = Lengths(total_steps, warmup_fraction, seconds).schedule()
        self.seconds = seconds
        super().__init__(optimizer, schedule)

    def observe(self, seconds: float) -> None:
        """Tells how much time is spent, the same on all ranks; the next `step` takes account."""
        for schedule in cast(list[WarmupCosine], self.lr_lambdas):
            schedule.spent = max(schedule.spent, seconds / self.seconds)
