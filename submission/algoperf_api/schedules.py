"""Learning-rate schedules in steps."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """Fraction of the peak learning rate at a step counted from 0.

    Rises linearly so that the first step already moves, then falls as a half cosine to 0 at
    `total_steps` and stays there.

    >>> [round(warmup_cosine_factor(s, 2, 6), 3) for s in (0, 1, 2, 4, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup_fraction: float) -> LambdaLR:
    """The schedule as a torch scheduler, to be stepped after every optimizer step.

    Args:
      optimizer: its groups' learning rates are the peaks.
      total_steps: steps until the rate is 0, at least 1.
      warmup_fraction: part of `total_steps` spent warming up, in [0, 1).

    Raises:
      ValueError: if an argument is out of range.
    """
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, got {total_steps}.")
    if not 0 <= warmup_fraction < 1:
        raise ValueError(f"warmup_fraction must be in [0, 1), got {warmup_fraction}.")
    warmup_steps = int(warmup_fraction * total_steps)
    return LambdaLR(optimizer, lambda step: warmup_cosine_factor(step, warmup_steps, total_steps))
