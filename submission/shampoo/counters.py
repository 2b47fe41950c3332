"""How many gradients each block has averaged, and the weights that follow from it."""

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from submission.shampoo.blocking import Member, StackLayout


@dataclasses.dataclass(frozen=True)
class Tick:
    """What one step means for the blocks of one stack; everything broadcasts to [N, m, n].

    Attributes:
      live: booleans, whether a block takes the step.
      decays: EMA weights of the old first and second moment; 1 for blocks that take no step.
      corrections: 1 - beta**t for both betas, t being the gradients averaged so far.
      fresh: booleans, which blocks average their first gradient; None if no block does.
    """

    live: Tensor
    decays: tuple[Tensor, Tensor]
    corrections: tuple[Tensor, Tensor]
    fresh: Tensor | None


class Counters:
    """One counter per block for all stacks of a group on one device.

    Counting per block and not per optimizer keeps the first update of a parameter whose first
    gradient comes late from being inflated. Kept in one tensor, so that a step's bookkeeping
    takes a fixed number of kernels whatever the number of stacks.
    """

    def __init__(
        self, layouts: Sequence[StackLayout], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._members = [member for layout in layouts for member in layout.members]
        self._sizes = [layout.blocks for layout in layouts]
        self._steps = torch.zeros(sum(self._sizes), 1, 1, dtype=dtype, device=device)
        counts = torch.tensor([member.tile.blocks for member in self._members])
        member_of_block = torch.repeat_interleave(torch.arange(len(counts)), counts)
        self._member_of_block = member_of_block.to(device).view(-1, 1, 1)
        self._seen: set[Member] = set()

    def per_stack(self) -> tuple[Tensor, ...]:
        """Views of the counters for each stack, [N, 1, 1]."""
        return self._steps.split(self._sizes)

    def advance(
        self, present: tuple[bool, ...], finite: Tensor, betas: tuple[float, float]
    ) -> list[Tick]:
        """Counts one step.

        Args:
          present: for each member of each stack, whether it has a gradient.
          finite: a boolean scalar; if False, no block takes the step.
          betas: EMA weights of the first and second moment.

        Returns:
          A tick for each stack.
        """
        fresh = self._note(present)
        live = finite if all(present) else self._mask(present) & finite
        self._steps.add_(live)
        decays = [1 - (1 - beta) * live.to(self._steps.dtype) for beta in betas]
        corrections = [bias_correction(beta, self._steps) for beta in betas]
        columns = [self._split(each) for each in (live, *decays, *corrections)]
        fresh_rows = self._split(fresh) if fresh is not None else [None] * len(self._sizes)
        return [
            Tick(live, (decay1, decay2), (correction1, correction2), fresh)
            for live, decay1, decay2, correction1, correction2, fresh in zip(
                *columns, fresh_rows, strict=True
            )
        ]

    def _note(self, present: tuple[bool, ...]) -> Tensor | None:
        if len(self._seen) == len(self._members):
            return None
        pairs = list(zip(self._members, present, strict=True))
        pattern = tuple(here and member not in self._seen for member, here in pairs)
        self._seen.update(member for member, here in pairs if here)
        return self._mask(pattern) if any(pattern) else None

    def _mask(self, pattern: tuple[bool, ...]) -> Tensor:
        """One boolean per block, [sum of N, 1, 1], from one per member."""
        flags = torch.tensor(pattern, pin_memory=self._steps.is_cuda)
        return flags.to(self._steps.device, non_blocking=True)[self._member_of_block]

    def _split(self, tensor: Tensor) -> Sequence[Tensor]:
        """One part per stack; a scalar stands for all."""
        if tensor.dim() == 0:
            return [tensor] * len(self._sizes)
        return tensor.split(self._sizes)

    def mark_seen(self, member: Member) -> None:
        """Notes that a member has averaged gradients before, loaded from a checkpoint."""
        self._seen.add(member)

    def has_seen(self, member: Member) -> bool:
        """Whether a member has had a gradient."""
        return member in self._seen


def bias_correction(beta: float, steps: Tensor) -> Tensor:
    """1 - beta**steps, accurate for beta near 1; steps of 0 count as 1.

    (Kingma & Ba 2015, arXiv:1412.6980, section 3.)

    Args:
      beta: EMA weight in [0, 1).
      steps: number of averaged gradients, float, any shape.
    """
    if beta == 0.0:
        return torch.ones_like(steps)
    return -torch.expm1(steps.clamp_min(1) * math.log(beta))
