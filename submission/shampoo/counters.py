"""How many gradients each block has averaged, and the weights that follow from it."""

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..plan.blocking import Part, StackSpec


@dataclasses.dataclass(frozen=True)
class Tick:
    """What one step means for the blocks of one stack; everything broadcasts to [N, m, n].

    Attributes:
      live: booleans, whether a block takes the step.
      decays: EMA weights of the old first and second moment; 1 for blocks that take no step.
      corrections: 1 - beta**t for both betas, t being the gradients averaged so far.
      adam_scale: sqrt(1 / c2) * c1 of the corrections c1 and c2.
      rate: the learning rate; 0 for blocks that take no step.
      steps: t, [N, 1, 1].
      fresh: booleans, which blocks get their first gradient; None if no block does.
      fresh_blocks: the same as ranges, known to the host.
    """

    live: Tensor
    decays: tuple[Tensor, Tensor]
    corrections: tuple[Tensor, Tensor]
    adam_scale: Tensor
    rate: Tensor
    steps: Tensor
    fresh: Tensor | None
    fresh_blocks: tuple[slice, ...]


class Counters:
    """One counter per block for all stacks of a group on one device.

    Counting per block and not per optimizer keeps the first update of a parameter whose first
    gradient comes late from being inflated. Kept in one tensor, so that a step's bookkeeping
    takes a fixed number of kernels whatever the number of stacks.
    """

    def __init__(
        self, layouts: Sequence[StackSpec], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._layouts = layouts
        self._members = [member for layout in layouts for member in layout.parts]
        self._sizes = [layout.blocks for layout in layouts]
        self._steps = torch.zeros(sum(self._sizes), 1, 1, dtype=dtype, device=device)
        counts = torch.tensor(
            [m.grid.blocks for m in self._members], dtype=torch.int64, device="cpu"
        )
        numbers = torch.arange(len(counts), device="cpu")
        member_of_block = torch.repeat_interleave(numbers, counts)
        self._member_of_block = member_of_block.to(device).view(-1, 1, 1)
        self._seen: set[Part] = set()
        self._last_mask: tuple[tuple[bool, ...], Tensor] | None = None

    def per_stack(self) -> tuple[Tensor, ...]:
        """Views of the counters for each stack, [N, 1, 1]."""
        return self._steps.split(self._sizes)

    def advance(
        self,
        present: tuple[bool, ...],
        finite: Tensor,
        betas: tuple[float, float],
        lr: float | Tensor,
    ) -> list[Tick]:
        """Counts one step.

        Args:
          present: for each member of each stack, whether it has a gradient.
          finite: a boolean scalar; if False, no block takes the step.
          betas: EMA weights of the first and second moment.
          lr: the learning rate.

        Returns:
          A tick for each stack.
        """
        news = self._note(present)
        live = finite if all(present) else self._mask_of(present) & finite
        self._steps.add_(live)
        number = live.to(self._steps.dtype)
        decays = [1 - (1 - beta) * number for beta in betas]
        first, second = (bias_correction(beta, self._steps) for beta in betas)
        each = (live, *decays, first, second, first * second.rsqrt(), number * lr, self._steps)
        columns = [self._split(tensor) for tensor in each]
        fresh: Sequence[Tensor | None] = [None] * len(self._sizes)
        if news:
            pattern = tuple(member in news for member in self._members)
            masks = self._split(self._mask(pattern))
            fresh = [
                mask if any(member in news for member in layout.parts) else None
                for layout, mask in zip(self._layouts, masks, strict=True)
            ]
        return [
            Tick(live, (decay1, decay2), (c1, c2), scale, rate, steps, mask, ranges)
            for live, decay1, decay2, c1, c2, scale, rate, steps, mask, ranges in zip(
                *columns, fresh, self._ranges(news), strict=True
            )
        ]

    def _note(self, present: tuple[bool, ...]) -> set[Part]:
        """The members that have a gradient for the first time."""
        if len(self._seen) == len(self._members):
            return set()
        here = {member for member, has in zip(self._members, present, strict=True) if has}
        news = here - self._seen
        self._seen |= news
        return news

    def _ranges(self, members: set[Part]) -> list[tuple[slice, ...]]:
        """The blocks of these members in each stack, adjacent ones as one range."""
        found = []
        for layout in self._layouts:
            ranges: list[slice] = []
            for member in layout.parts if members else ():
                if member not in members:
                    continue
                start, stop = member.offset, member.offset + member.grid.blocks
                if ranges and ranges[-1].stop == start:
                    start = ranges.pop().start
                ranges.append(slice(start, stop))
            found.append(tuple(ranges))
        return found

    def _mask_of(self, present: tuple[bool, ...]) -> Tensor:
        """`_mask`, made once for steps with the same members."""
        if self._last_mask is None or self._last_mask[0] != present:
            self._last_mask = present, self._mask(present)
        return self._last_mask[1]

    def _mask(self, pattern: tuple[bool, ...]) -> Tensor:
        """One boolean per block, [sum of N, 1, 1], from one per member."""
        flags = torch.tensor(pattern, device="cpu", pin_memory=self._steps.is_cuda)
        return flags.to(self._steps.device, non_blocking=True)[self._member_of_block]

    def _split(self, tensor: Tensor) -> Sequence[Tensor]:
        """One part per stack; a scalar stands for all."""
        if tensor.dim() == 0:
            return [tensor] * len(self._sizes)
        return tensor.split(self._sizes)

    def mark_seen(self, member: Part) -> None:
        """Notes that a member has averaged gradients before, loaded from a checkpoint."""
        self._seen.add(member)

    def has_seen(self, member: Part) -> bool:
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
