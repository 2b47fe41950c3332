"""Kronecker factors of a stack, with their health and pending retries."""

import torch
from torch import Tensor

from .async_flags import AsyncFlags
from .devices import is_queued, to_device
from .symmetric_stack import LEAF, Blocks, SymmetricStack

# Columns of `KroneckerFactor.health`.
RESIDUAL, CONDITION, REFRESHES, FAILURES, _FAILED = range(5)


class KroneckerFactor:
    """The factors A = L or R of N blocks, [N, d, d].

    Attributes:
      dimension: d.
      matrix: the weighted sum of outer products.
      dtype: of what is computed from the factors.
      health: [N, 5] float32: the last refresh's residual and condition number, the numbers of
        trusted and of untrusted refreshes, and whether the last failed and is to be repeated.
    """

    def __init__(self, dimension: int, weight: Tensor, dtype: torch.dtype) -> None:
        blocks, device = len(weight), weight.device
        self.dimension = dimension
        self.dtype = weight.dtype
        self.matrix = SymmetricStack(blocks, dimension, LEAF, dtype, device)
        self.health = torch.zeros(blocks, 5, dtype=torch.float32, device=device)
        self._failed = AsyncFlags()
        self._due: list[int] = []

    def dense(self, blocks: Blocks) -> Tensor:
        """The matrices at `blocks` in full, [n, d, d]."""
        return self.matrix.dense(blocks, self.dtype)

    def read_flags(self) -> None:
        """Reads on the host what earlier steps have scheduled; the first thing in a step.

        Later in the step there may be newer flags, for which the host would have to wait.
        """
        if self._failed.is_posted:
            self._due = self._failed.read()

    @property
    def has_pending(self) -> bool:
        """Whether `pending_retries` names blocks."""
        return bool(self._due)

    def pending_retries(self, live: Tensor) -> Tensor | None:
        """Indices of blocks whose last root an iteration failed at; None if there are none.

        Only what the host could not see at the time, see `AsyncFlags`.

        Args:
          live: [N] booleans; where False a block takes no step, and is named again at the next.
        """
        numbers, self._due = self._due, []
        if not numbers:
            return None
        indices = to_device(numbers, self.health.device)
        # Of these alone: what has been scheduled since is for the next step to see.
        self.health[indices, _FAILED] *= ~live[indices]
        self.restore()
        return indices

    def restore(self) -> None:
        """Schedules the refreshes that `health`, which may have been loaded, says are pending."""
        self._failed.post(self.health[:, _FAILED] > 0)

    def record(self, blocks: Blocks, trusted: Tensor, live: Tensor, *measures: Tensor) -> None:
        """Counts refreshes where `live` [n], with their residuals and condition numbers [n]."""
        old = self.health[blocks]
        refreshes, failures, failed = old[:, REFRESHES:].unbind(1)
        untrusted = ~trusted
        # On a CPU the host has seen the failure, and tried again, at once.
        is_late = is_queued(self.health.device)
        if is_late:
            failed = untrusted.float()
        columns = *(measure.float() for measure in measures), refreshes + trusted
        new = torch.stack([*columns, failures + untrusted, failed], dim=1)
        self.health[blocks] = torch.where(live[:, None], new, old)
        if is_late:
            self.restore()

    def record_failure(self, blocks: Blocks, live: Tensor) -> None:
        """Counts refreshes that gave no result, where `live` [n]."""
        measures = self.health[blocks, RESIDUAL], self.health[blocks, CONDITION]
        self.record(blocks, torch.zeros_like(live), live, *measures)
