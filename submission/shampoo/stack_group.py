"""The stacks of one parameter group on one device, and their way through a step."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from submission.shampoo import fused
from submission.shampoo.blocking import Member, Plan, stack_layouts
from submission.shampoo.config import StateConfig
from submission.shampoo.counters import Counters
from submission.shampoo.refreshing import Refresher
from submission.shampoo.stacks import Stack


class StackGroup:
    """All stacks of one group, device and parameter dtype.

    Args:
      plans: (index, plan) of each parameter that lives here.
      config: what state there is.
      dtype: of all state but what `config` says otherwise of.
      device: of the parameters and all state.
    """

    def __init__(
        self,
        plans: list[tuple[int, Plan]],
        config: StateConfig,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        layouts = stack_layouts(plans)
        self.dtype, self.device = dtype, device
        self.counters = Counters(layouts, dtype, device)
        self.stacks = [
            Stack(layout, config, steps, dtype, device)
            for layout, steps in zip(layouts, self.counters.per_stack(), strict=True)
        ]
        self.refresher = Refresher(self.stacks, device)
        slots = {index: slot for slot, (index, _) in enumerate(plans)}
        self._slots = len(slots)
        self._slot_of_block = {
            number: self._slots_of(stack, slots)
            for number, stack in enumerate(self.stacks)
            if stack.preconditioner is not None
        }
        self._present: list[list[bool]] = []
        self._fused: list[bool] = []
        self._grads: Mapping[int, Tensor] = {}

    def _slots_of(self, stack: Stack, slots: Mapping[int, int]) -> Tensor:
        """Which parameter each block belongs to, [N]."""
        members = stack.layout.members
        counts = torch.tensor([member.tile.blocks for member in members], device="cpu")
        numbers = torch.tensor([slots[member.index] for member in members], device="cpu")
        return torch.repeat_interleave(numbers, counts).to(self.device)

    def _members(self, number: int) -> Iterator[tuple[Member, Tensor]]:
        """The members of a stack that take this step, with their views of its buffer."""
        stack = self.stacks[number]
        for member, view, present in zip(
            stack.layout.members, stack.views, self._present[number], strict=True
        ):
            if present:
                yield member, view

    def gather(
        self, grads: Mapping[int, Tensor], weights: Mapping[int, Tensor], options: Mapping[str, Any]
    ) -> Tensor:
        """Copies gradients into the stacks; returns whether all are finite, a boolean scalar.

        A gradient whose squares leave the dtype's range counts as not finite: its factors would.

        Args:
          grads, weights: as matrices, by parameter index; parameters without one are absent.
          options: the parameter group.
        """
        self.refresher.collect()
        self._grads = grads
        targets, sources, owners, norms = [], [], [], []
        self._present, self._fused = [], []
        for number, stack in enumerate(self.stacks):
            members = stack.layout.members
            self._present.append([member.index in grads for member in members])
            here = [member.index for member in members if member.index in grads]
            theirs = [grads[index] for index in here]
            owned = [weights[index] for index in here]
            fits = stack.preconditioner is None and fused.fits(stack, theirs, owned, options)
            self._fused.append(fits)
            if fits:
                norms.extend(theirs)
                continue
            norms.append(stack.buffer)
            if len(here) < len(members):
                stack.buffer.zero_()
            for member, view in self._members(number):
                targets.append(view)
                sources.append(member.tile.of_matrix(grads[member.index]))
                owners.append(member.tile.of_matrix(weights[member.index]))
        if not norms:
            return torch.ones((), dtype=torch.bool, device=self.device)
        if targets:
            torch._foreach_copy_(targets, sources)
        if targets and options["decay_mode"] == "l2" and options["weight_decay"] != 0:
            exact = [owner.to(self.dtype) for owner in owners]
            torch._foreach_add_(targets, exact, alpha=options["weight_decay"])
        return torch.stack(torch._foreach_norm(norms)).isfinite().all()

    def step(
        self, finite: Tensor, weights: Mapping[int, Tensor], options: Mapping[str, Any]
    ) -> None:
        """Advances all state and moves the weights.

        Args:
          finite: a boolean scalar; where False nothing changes.
          weights: as for `gather`; moved in place.
          options: the parameter group, with "shrink", the strength of decoupled decay.
        """
        present = tuple(each for row in self._present for each in row)
        ticks = self.counters.advance(present, finite, options["betas"], options["lr"])
        stacked = [number for number, fits in enumerate(self._fused) if not fits]
        for stack, fits in zip(self.stacks, self._fused, strict=True):
            members = [each for each in stack.layout.members if each.index in self._grads]
            if fits and members:
                theirs = [weights[member.index] for member in members]
                grads = [self._grads[member.index] for member in members]
                fused.step(stack, members, grads, theirs, finite, options)
        per_stack = [stack.options(options) for stack in self.stacks]
        spoilt = ~finite
        for number in stacked:
            self.stacks[number].observe(spoilt, ticks[number], per_stack[number])
        self.refresher.refresh(ticks, per_stack)
        for number in stacked:
            self.stacks[number].advance(ticks[number], per_stack[number])
        for number, norms in zip(stacked, self._norms(stacked, options), strict=True):
            self.stacks[number].conclude(ticks[number], per_stack[number], norms)
        self._apply(stacked, finite, weights, options)
        self._grads = {}

    def _norms(
        self, stacked: Sequence[int], options: Mapping[str, Any]
    ) -> list[tuple[Tensor, Tensor] | None]:
        """What grafting matches in each of the stacks: norms of blocks, or of their layers."""
        norms = [self.stacks[number].norms() for number in stacked]
        if options["grafting_scope"] == "block":
            return norms
        totals = torch.zeros(2, self._slots, dtype=self.dtype, device=self.device)
        for number, pair in zip(stacked, norms, strict=True):
            if pair is not None:
                squares = torch.stack([each.flatten() for each in pair]).square()
                totals.index_add_(1, self._slot_of_block[number], squares)
        totals = totals.sqrt()
        return [
            pair and tuple(totals[:, self._slot_of_block[number], None, None])
            for number, pair in zip(stacked, norms, strict=True)
        ]

    def _apply(
        self,
        stacked: Sequence[int],
        finite: Tensor,
        weights: Mapping[int, Tensor],
        options: Mapping[str, Any],
    ) -> None:
        """Shrinks weights by a fraction of themselves and subtracts the stacks' updates."""
        pairs = [pair for number in stacked for pair in self._members(number)]
        if not pairs:
            return
        targets = [member.tile.of_matrix(weights[member.index]) for member, _ in pairs]
        sources = [view for _, view in pairs]
        if options["shrink"] != 0:
            decay = finite.to(self.dtype) * (options["lr"] * options["shrink"])
            if targets[0].dtype == sources[0].dtype:
                torch._foreach_mul_(targets, 1 - decay)
            else:
                # Rounding 1 - decay to a short mantissa would give no decay, or far too much.
                exact = [target.to(decay.dtype) for target in targets]
                torch._foreach_add_(sources, torch._foreach_mul(exact, decay))
        torch._foreach_sub_(targets, sources)
