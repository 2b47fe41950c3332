"""The stacks of parameters with one placement, their step counters, and one step of theirs."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..plan.blocking import StackSpec
from ..plan.refresh import RefreshSchedule
from . import diagonal
from .config import StateConfig
from .counters import Counters
from .distributor import Distributor, Local, Specs, Weights
from .placement import LOCAL, Placement
from .refresher import Refresher
from .segment import Segment
from .stack import Stack, memory_of
from .step import Number, StepInfo, StepOptions


class PlacedStacks:
    """All stacks of one group, device, parameter dtype and placement that this rank owns.

    Args:
      specs: the stacks of every owner, in the order of `Placement.owner`.
      indices: the parameters in the stacks of any rank, in the same order on all.
      config: which state there is.
      dtype: of all state, unless `config` overrides it.
      device: of the parameters and all state.
      placement: of the parameters.
      schedule: of all factors of the parameter group; None for these stacks alone.
      weights: this rank's shards of all parameters; None for stacks that take no step.

    Attributes:
      specs, indices, dtype, device, placement: as given.
      stacks: this rank's.
      distributor: brings gradients and takes updates; `Local` until another one is set.
    """

    def __init__(
        self,
        specs: Specs,
        indices: Sequence[int],
        config: StateConfig,
        dtype: torch.dtype,
        device: torch.device,
        placement: Placement = LOCAL,
        schedule: RefreshSchedule | None = None,
        weights: Weights | None = None,
    ) -> None:
        self.specs, self.indices = specs, tuple(indices)
        self.dtype, self.device, self.placement = dtype, device, placement
        self.distributor: Distributor = Local(weights or Weights(()))
        self.counters = Counters(specs[placement.owner], dtype, device)
        self.stacks = self._new_stacks(specs[placement.owner], config)
        self.refresher = Refresher(self.stacks, device, schedule)
        self._active: tuple[int, ...] | None = None
        self._is_active: tuple[bool, ...] = ()
        self._fused: list[tuple[Stack, list[Tensor], list[Tensor]]] = []
        self._batched: list[int] = []
        self._alone = [Segment([stack]) for stack in self.stacks]
        preconditioned = [stack for stack in self.stacks if stack.preconditioner is not None]
        self._together = Segment(preconditioned) if preconditioned else None

    def _new_stacks(self, specs: Sequence[StackSpec], config: StateConfig) -> list[Stack]:
        """The stacks; those with preconditioners, which are moved by one method, share a memory."""
        shared = [number for number, spec in enumerate(specs) if any(spec.sides)]
        memory = memory_of([specs[number] for number in shared], self.dtype, self.device)
        places = {number: (memory, place) for place, number in enumerate(shared)}
        stacks = []
        for number, (spec, steps) in enumerate(zip(specs, self.counters.per_stack, strict=True)):
            where, place = places.get(number, (None, 0))
            stacks.append(Stack(spec, config, steps, self.dtype, self.device, where, place))
        return stacks

    def _set_active(self, indices: tuple[int, ...]) -> None:
        """Caches the parts with gradients; recomputed only when the set changes."""
        if indices != self._active:
            self._active, members = indices, frozenset(indices)
            for stack in self.stacks:
                stack.set_active(members)
            self._is_active = tuple(flag for stack in self.stacks for flag in stack.is_active)

    def take_gradients(self, grads: Mapping[int, Tensor], options: StepOptions) -> Tensor:
        """Brings gradients into the stacks; returns whether all are finite, a boolean scalar.

        A gradient whose squares leave the dtype's range counts as not finite: its factors would.

        Args:
          grads: this rank's shards of the gradients, by parameter index; parameters without one
            are absent.
          options: of the step.
        """
        if not options.capturable:
            self.refresher.begin()
        self._set_active(tuple(grads))
        self._fused, self._batched = [], []
        for number, stack in enumerate(self.stacks):
            pair = self._fusable(stack, grads, options)
            if pair is None:
                self._batched.append(number)
            else:
                self._fused.append((stack, *pair))
        batched = [self.stacks[number] for number in self._batched]
        memories = dict.fromkeys(stack.memory for stack in batched)
        tensors = [memory.flat("buffer") for memory in memories]
        l2 = -options.l2 if options.maximize else options.l2
        self.distributor.scatter_gradients(batched, grads, l2)
        if options.maximize and tensors:
            torch._foreach_neg_(tensors)
        for _, _, fused_grads in self._fused:
            tensors.extend(fused_grads)
        if not tensors:
            return torch.ones((), dtype=torch.bool, device=self.device)
        return torch.stack(torch._foreach_norm(tensors)).amax() < math.inf

    def _fusable(
        self, stack: Stack, grads: Mapping[int, Tensor], options: StepOptions
    ) -> tuple[list[Tensor], list[Tensor]] | None:
        """Weights and gradients that a fused kernel can step in place, or None."""
        if stack.preconditioner is not None or not isinstance(self.distributor, Local):
            return None
        if not stack.active:
            return [], []
        if not diagonal.is_fused_step(stack.diagonal, self.device, options):
            return None
        moved = [self.distributor.weights.shards[part.index] for part in stack.active]
        taken = [
            grad if grad.shape == weight.shape else grad.reshape(weight.shape)
            for weight, grad in zip(moved, (grads[p.index] for p in stack.active), strict=True)
        ]
        is_readable = all(t.dtype == stack.dtype and t.is_contiguous() for t in (*moved, *taken))
        return (moved, taken) if is_readable else None

    def step(self, finite: Tensor, options: StepOptions, is_known: bool) -> None:
        """Advances all state and moves the weights.

        Args:
          finite: a boolean scalar; where False nothing changes.
          options: of the step.
          is_known: whether the host knows that `finite` is True and may read what it needs.
        """
        infos = self.counters.advance(self._is_active, finite, options.betas, options.lr, is_known)
        skipped: Tensor | None = None
        found_inf: Tensor | None = None
        if not is_known:
            skipped = ~finite
            found_inf = skipped.float()
        for stack, moved, grads in self._fused:
            if moved:
                state = stack.adam_state([weight.shape for weight in moved])
                diagonal.fused_adam(moved, grads, state, found_inf, options)
        segments = self._segments(infos)
        for segment, info in segments:
            if skipped is not None:
                segment.buffer.masked_fill_(skipped, 0)
            segment.update_factors(info, options)
        if not options.capturable:
            self.refresher.refresh(infos, options)
        taken: Number = 1.0
        if not is_known:
            is_one = infos and infos[0].rates.is_uniform
            taken = infos[0].rates.taken if is_one else finite.to(self.dtype)
        decay = options.decay_fraction(taken)
        for segment, info in segments:
            segment.compute_updates(info, options, found_inf)
            for stack in segment.stacks:
                self.distributor.send_update(stack, decay)
        batched = [self.stacks[number] for number in self._batched]
        self.distributor.apply_updates(batched, decay)
        self._fused = []

    def skip(self) -> None:
        """Ends a step that the host knows is not taken: a first gradient was one nevertheless."""
        self.counters.note(self._is_active)
        self._fused = []

    def refresh(self, options: StepOptions) -> None:
        """Refreshes what is due after a step that left it out, see `StepOptions.capturable`."""
        self.refresher.begin()
        self.refresher.refresh(self.counters.after_step(), options)

    def _segments(self, infos: Sequence[StepInfo]) -> list[tuple[Segment, StepInfo]]:
        """The stacks that no fused kernel steps, together where they can be, with their steps."""
        numbers = list(self._batched)
        segments = []
        if self._together is not None and infos[0].rates.is_uniform:
            segments.append((self._together, infos[0]))
            numbers = [n for n in numbers if self.stacks[n].preconditioner is None]
        return segments + [(self._alone[number], infos[number]) for number in numbers]
