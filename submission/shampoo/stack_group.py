"""The stacks of parameters that lie alike, and their way through a step."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..plan.blocking import StackSpec
from ..plan.refresh import RefreshSchedule
from . import fused
from .config import StateConfig
from .counters import Counters
from .exchange import Exchange, Local, Matrices, decay_of
from .placement import LOCAL, Placement
from .refreshing import Refresher
from .roster import Roster
from .stacks import Stack


class StackGroup:
    """All stacks of one group, device, parameter dtype and placement that this rank owns.

    Args:
      layouts: their layouts.
      indices: the parameters that they are of, on whichever rank, in the same order on all.
      config: what state there is.
      dtype: of all state but what `config` says otherwise of.
      device: of the parameters and all state.
      placement: where the parameters lie.
      schedule: of all factors of the parameter group; None for these stacks alone.

    Attributes:
      exchange: how gradients come and updates go; on one device until another is set.
    """

    def __init__(
        self,
        layouts: Sequence[StackSpec],
        indices: Sequence[int],
        config: StateConfig,
        dtype: torch.dtype,
        device: torch.device,
        placement: Placement = LOCAL,
        schedule: RefreshSchedule | None = None,
    ) -> None:
        self.indices = tuple(indices)
        self.dtype, self.device, self.placement = dtype, device, placement
        self.exchange: Exchange = Local()
        self.counters = Counters(layouts, dtype, device)
        self.stacks = [
            Stack(layout, config, steps, dtype, device)
            for layout, steps in zip(layouts, self.counters.per_stack(), strict=True)
        ]
        self.refresher = Refresher(self.stacks, device, schedule)
        slots = {index: slot for slot, index in enumerate(indices)}
        self._slots = len(slots)
        self._slot_of_block = {
            number: self._slots_of(stack, slots)
            for number, stack in enumerate(self.stacks)
            if stack.preconditioner is not None
        }
        self._indices: tuple[int, ...] | None = None
        self._rosters: list[Roster] = []
        self._present: tuple[bool, ...] = ()
        self._fused: list[bool] = []
        self._grads: Matrices = {}

    def _slots_of(self, stack: Stack, slots: Mapping[int, int]) -> Tensor:
        """Which parameter each block belongs to, [N]."""
        members = stack.layout.parts
        counts = torch.tensor([member.grid.blocks for member in members], device="cpu")
        numbers = torch.tensor([slots[member.index] for member in members], device="cpu")
        return torch.repeat_interleave(numbers, counts).to(self.device)

    def _call(self, indices: tuple[int, ...]) -> None:
        """Notes which parameters take this step, as a rule those that took the last."""
        if indices != self._indices:
            self._indices = indices
            self._rosters = [Roster(stack, frozenset(indices)) for stack in self.stacks]
            self._present = tuple(each for roster in self._rosters for each in roster.present)

    def gather(self, grads: Matrices, weights: Matrices, options: Mapping[str, Any]) -> Tensor:
        """Brings gradients into the stacks; returns whether all are finite, a boolean scalar.

        A gradient whose squares leave the dtype's range counts as not finite: its factors would.

        Args:
          grads: what this rank holds of the gradients, as matrices, by parameter index;
            parameters without one are absent.
          weights: the same of all parameters.
          options: the parameter group.
        """
        self.refresher.collect()
        self._grads = grads
        self._call(tuple(grads))
        self._fused = [self._fits(roster, grads, weights, options) for roster in self._rosters]
        stacked = self._stacked()
        l2 = options["weight_decay"] if options["decay_mode"] == "l2" else 0.0
        self.exchange.take(stacked, grads, weights, l2)
        norms = [roster.stack.buffer for roster in stacked]
        for roster, fits in zip(self._rosters, self._fused, strict=True):
            if fits:
                norms.extend(grads[member.index] for member in roster.members)
        if not norms:
            return torch.ones((), dtype=torch.bool, device=self.device)
        return torch.stack(torch._foreach_norm(norms)).isfinite().all()

    def _fits(
        self, roster: Roster, grads: Matrices, weights: Matrices, options: Mapping[str, Any]
    ) -> bool:
        """Whether a fused kernel moves the weights of a stack in place."""
        if roster.stack.preconditioner is not None or not isinstance(self.exchange, Local):
            return False
        theirs = [grads[member.index] for member in roster.members]
        owned = [weights[member.index] for member in roster.members]
        return fused.fits(roster.stack, theirs, owned, options)

    def _stacked(self) -> list[Roster]:
        """The rosters of the stacks that no fused kernel moves."""
        return [each for each, fits in zip(self._rosters, self._fused, strict=True) if not fits]

    def step(self, finite: Tensor, weights: Matrices, options: Mapping[str, Any]) -> None:
        """Advances all state and moves the weights.

        Args:
          finite: a boolean scalar; where False nothing changes.
          weights: as for `gather`; moved in place.
          options: the parameter group, with "shrink", the strength of decoupled decay.
        """
        ticks = self.counters.advance(self._present, finite, options["betas"], options["lr"])
        for roster, fits in zip(self._rosters, self._fused, strict=True):
            if fits and roster.members:
                theirs = [weights[member.index] for member in roster.members]
                grads = [self._grads[member.index] for member in roster.members]
                fused.step(roster, grads, theirs, finite, options)
        per_stack = [stack.options(options) for stack in self.stacks]
        stacked = [number for number, fits in enumerate(self._fused) if not fits]
        spoilt = ~finite
        for number in stacked:
            self.stacks[number].observe(spoilt, ticks[number], per_stack[number])
        self.refresher.refresh(ticks, per_stack)
        for number in stacked:
            self.stacks[number].advance(ticks[number], per_stack[number])
        decay = decay_of(finite, options, self.dtype)
        for number, norms in zip(stacked, self._norms(stacked, options), strict=True):
            self.stacks[number].conclude(ticks[number], per_stack[number], norms)
            self.exchange.ready(number, self._rosters[number], weights, decay)
        self.exchange.give(self._stacked(), self._grads.keys(), weights, decay)
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
        for group in self.placement.groups:
            dist.all_reduce(totals, group=group)
        totals = totals.sqrt()
        return [
            pair and tuple(totals[:, self._slot_of_block[number], None, None])
            for number, pair in zip(stacked, norms, strict=True)
        ]
