"""Schedules of a comparison's variants: the shared cosine to zero, or a constant rate.

A method that averages its iterates in place of a schedule is not judged under one that ends at
zero: Defazio et al. 2024, arXiv:2405.15682, train schedule-free methods at a constant rate after
warming up.
"""

from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from scripts.compare.plan import SCHEDULES
from submission.algoperf_api import pytorch as api
from submission.algoperf_api import spec
from submission.algoperf_api.statistics import LatestBatch

_COSINE, _ = SCHEDULES


def optimizer_state(
    workload: spec.Workload, optimizer: torch.optim.Optimizer, point: Any
) -> dict[str, Any]:
    """An optimizer and the schedule that its point names, as `api.optimizer_state` returns them.

    Args:
      workload: whose step hint the lengths are fractions of.
      optimizer: its groups' learning rates are the peaks.
      point: as `Comparison.trial` makes it; without a `schedule` it is the cosine.
    """
    if getattr(point, "schedule", _COSINE) == _COSINE:
        return api.optimizer_state(workload, optimizer, point, LatestBatch)
    warmup = int(point.warmup_factor * int(point.step_hint_factor * workload.step_hint))

    def share(step: int) -> float:
        """The share of the peak at a step counted from 0, of which the first already moves."""
        return min((step + 1) / max(warmup, 1), 1.0)

    return {"optimizer": optimizer, "scheduler": LambdaLR(optimizer, share)}
