"""Whether a step is taken, and how many were not; all where the gradients are.

The host need not wait.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .devices import to_list
from .placement import all_true

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class SkippedSteps:
    """Counts on the device; `count` moves the number to where checkpoints keep it."""

    def __init__(self) -> None:
        self._counter: Tensor | None = None

    def all_finite(
        self,
        flags: Sequence[Tensor],
        found_inf: Tensor | None,
        groups: "Sequence[ProcessGroup]",
    ) -> Tensor:
        """Whether all ranks take the step, a boolean on the first flag's device; counts it if not.

        Args:
          flags: booleans, whether gradients are finite.
          found_inf: a `torch.amp.GradScaler`'s; not 0 if it has seen others.
          groups: of the ranks that must take or skip the step together.
        """
        finite = flags[0]
        for flag in flags[1:]:
            finite = finite & flag.to(finite.device)
        if found_inf is not None:
            finite = finite & (found_inf == 0).to(finite.device)
        finite = all_true(finite, list(dict.fromkeys(groups)))
        if self._counter is None:
            self._counter = torch.zeros((), dtype=torch.int64, device=finite.device)
        self._counter.add_((~finite).to(self._counter.device))
        return finite

    def count(self, groups: list[dict[str, Any]]) -> int:
        """All steps skipped so far, "skipped_steps" of the groups; waits for the device."""
        if self._counter is not None and groups:
            groups[0]["skipped_steps"] += int(to_list(self._counter))
            self._counter.zero_()
        return sum(group["skipped_steps"] for group in groups)
