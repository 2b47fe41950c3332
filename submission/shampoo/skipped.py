"""How many steps were skipped, counted where the gradients are so that the host need not wait."""

from typing import Any

import torch
from torch import Tensor


class SkippedSteps:
    """Counts on the device; `count` moves the number to where checkpoints keep it."""

    def __init__(self) -> None:
        self._counter: Tensor | None = None

    def add(self, finite: Tensor) -> None:
        """Counts a step if `finite`, a boolean scalar, is False."""
        if self._counter is None:
            self._counter = torch.zeros((), dtype=torch.int64, device=finite.device)
        self._counter.add_((~finite).to(self._counter.device))

    def count(self, groups: list[dict[str, Any]]) -> int:
        """All steps skipped so far, "skipped_steps" of the groups; waits for the device."""
        if self._counter is not None and groups:
            groups[0]["skipped_steps"] += int(self._counter)
            self._counter.zero_()
        return sum(group["skipped_steps"] for group in groups)
