"""The stacks of parameters with one placement, their step counters, and one step of theirs."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from ..plan.blocking import Part, StackSpec
from ..plan.refresh import RefreshSchedule
from .config import StateConfig
from .devices import to_device
from .diagonal import bias_correction, fused_adam, is_fusable
from .distributor import Distributor, Local, Weights, decay_fraction
from .placement import LOCAL, Placement
from .refresher import Refresher
from .stack import Stack
from .step import StepInfo, StepOptions


class StackGroup:
    """All stacks of one group, device, parameter dtype and placement that this rank owns.

    Args:
      specs: the stacks.
      indices: the parameters in the stacks of any rank, in the same order on all.
      config: which state there is.
      dtype: of all state, unless `config` overrides it.
      device: of the parameters and all state.
      placement: of the parameters.
      schedule: of all factors of the parameter group; None for these stacks alone.

    Attributes:
      distributor: brings gradients and takes updates; `Local` until another one is set.
    """

    def __init__(
        self,
        specs: Sequence[StackSpec],
        indices: Sequence[int],
        config: StateConfig,
        dtype: torch.dtype,
        device: torch.device,
        placement: Placement = LOCAL,
        schedule: RefreshSchedule | None = None,
    ) -> None:
        self.indices = tuple(indices)
        self.dtype, self.device, self.placement = dtype, device, placement
        self.distributor: Distributor = Local()
        self.counters = Counters(specs, dtype, device)
        self.stacks = [
            Stack(spec, config, steps, dtype, device)
            for spec, steps in zip(specs, self.counters.per_stack(), strict=True)
        ]
        self.refresher = Refresher(self.stacks, device, schedule)
        slots = {index: slot for slot, index in enumerate(indices)}
        self._slots = len(slots)
        self._slot_of_block = {
            number: self._slots_of(stack, slots)
            for number, stack in enumerate(self.stacks)
            if stack.preconditioner is not None
        }
        self._active: tuple[int, ...] | None = None
        self._is_active: tuple[bool, ...] = ()
        self._grads: Mapping[int, Tensor] = {}
        self._fused: list[tuple[Stack, list[Tensor], list[Tensor]]] = []
        self._batched: list[int] = []

    def _slots_of(self, stack: Stack, slots: Mapping[int, int]) -> Tensor:
        """The slot of the parameter that each block belongs to, [N]."""
        parts = stack.spec.parts
        counts = torch.tensor([part.grid.blocks for part in parts], device="cpu")
        numbers = torch.tensor([slots[part.index] for part in parts], device="cpu")
        return torch.repeat_interleave(numbers, counts).to(self.device)

    def _set_active(self, indices: tuple[int, ...]) -> None:
        """Caches the parts with gradients; recomputed only when the set changes."""
        if indices != self._active:
            self._active, members = indices, frozenset(indices)
            for stack in self.stacks:
                stack.set_active(members)
            self._is_active = tuple(flag for stack in self.stacks for flag in stack.is_active)

    def gather(self, grads: Mapping[int, Tensor], weights: Weights, options: StepOptions) -> Tensor:
        """Brings gradients into the stacks; returns whether all are finite, a boolean scalar.

        A gradient whose squares leave the dtype's range counts as not finite: its factors would.

        Args:
          grads: this rank's shards of the gradients, by parameter index; parameters without one
            are absent.
          weights: this rank's shards of all parameters.
          options: of the step.
        """
        self.refresher.begin()
        self._grads = grads
        self._set_active(tuple(grads))
        self._fused, self._batched = [], []
        for number, stack in enumerate(self.stacks):
            pair = self._fusable(stack, grads, weights, options)
            if pair is None:
                self._batched.append(number)
            else:
                self._fused.append((stack, *pair))
        batched = [self.stacks[number] for number in self._batched]
        tensors = [stack.buffer for stack in batched]
        if options.maximize:
            self.distributor.scatter_gradients(batched, grads, weights, -options.l2)
            torch._foreach_neg_(tensors)
        else:
            self.distributor.scatter_gradients(batched, grads, weights, options.l2)
        for _, _, fused_grads in self._fused:
            tensors.extend(fused_grads)
        if not tensors:
            return torch.ones((), dtype=torch.bool, device=self.device)
        return torch.stack(torch._foreach_norm(tensors)).isfinite().all()

    def _fusable(
        self,
        stack: Stack,
        grads: Mapping[int, Tensor],
        weights: Weights,
        options: StepOptions,
    ) -> tuple[list[Tensor], list[Tensor]] | None:
        """Weights and gradients that a fused kernel can step in place, or None."""
        if stack.preconditioner is not None or not isinstance(self.distributor, Local):
            return None
        if not stack.active:
            return [], []
        if stack.diagonal is None or not stack.diagonal.is_fusable(options):
            return None
        moved = [weights.shards[part.index] for part in stack.active]
        taken = [
            grad if grad.shape == weight.shape else grad.reshape(weight.shape)
            for weight, grad in zip(moved, (grads[p.index] for p in stack.active), strict=True)
        ]
        return (moved, taken) if is_fusable([*moved, *taken], stack.dtype) else None

    def step(self, finite: Tensor, weights: Weights, options: StepOptions) -> None:
        """Advances all state and moves the weights.

        Args:
          finite: a boolean scalar; where False nothing changes.
          weights: as for `gather`; moved in place.
          options: of the step.
        """
        infos = self.counters.advance(self._is_active, finite, options.betas, options.lr)
        for stack, moved, grads in self._fused:
            if moved:
                state = stack.adam_state([weight.shape for weight in moved])
                fused_adam(moved, grads, state, finite, options)
        skipped = ~finite
        batched = [(n, self.stacks[n], infos[n]) for n in self._batched]
        for _, stack, info in batched:
            stack.update_factors(skipped, info, options)
        self.refresher.refresh(infos, options)
        for _, stack, info in batched:
            stack.compute_direction(info, options)
        decay = decay_fraction(finite, options, self.dtype)
        norms = self._norms([number for number, _, _ in batched], options)
        for (number, stack, info), pair in zip(batched, norms, strict=True):
            stack.graft_and_scale(info, options, pair)
            self.distributor.send_update(number, stack, weights, decay)
        stacks = [stack for _, stack, _ in batched]
        self.distributor.apply_updates(stacks, self._grads.keys(), weights, decay)
        self._grads, self._fused = {}, []

    def _norms(
        self, batched: Sequence[int], options: StepOptions
    ) -> list[tuple[Tensor, Tensor] | None]:
        """The norms that grafting matches in each of the stacks: of blocks, or of their layers."""
        norms = [self.stacks[number].norms() for number in batched]
        if options.grafting_scope == "block":
            return norms
        totals = torch.zeros(2, self._slots, dtype=self.dtype, device=self.device)
        for number, pair in zip(batched, norms, strict=True):
            if pair is not None:
                squares = torch.stack([norm.flatten() for norm in pair]).square()
                totals.index_add_(1, self._slot_of_block[number], squares)
        for group in self.placement.groups:
            dist.all_reduce(totals, group=group)
        totals = totals.sqrt()
        return [
            pair and tuple(totals[:, self._slot_of_block[number], None, None])
            for number, pair in zip(batched, norms, strict=True)
        ]


def block_bytes(
    spec: StackSpec, config: StateConfig, dtype: torch.dtype, has_first: bool, has_velocity: bool
) -> int:
    """Bytes of the state of one block of a stack, all of whose tensors have a row per block.

    Args:
      spec: of the stack.
      config, dtype: as for `StackGroup`.
      has_first, has_velocity: whether there are those moments.
    """
    part, elements = spec.parts[0], 1
    if not any(spec.sides):  # moments alone, which for a table is too much to allocate
        elements, spec = spec.height * spec.width, dataclasses.replace(spec, height=1, width=1)
    grid = dataclasses.replace(part.grid, rows=1, columns=1)
    one = dataclasses.replace(spec, parts=(dataclasses.replace(part, grid=grid, offset=0),))
    # Not on the meta device, some of whose operators take seconds to import.
    stack = StackGroup([one], [part.index], config, dtype, torch.device("cpu")).stacks[0]
    if has_first:
        stack.ensure_first()
    if has_velocity:
        stack.ensure_velocity()
    tensors = stack.state_tensors()
    return sum(tensors[name].nbytes * (elements if name != "step" else 1) for name in tensors)


class Counters:
    """One counter per block for all stacks of a group on one device.

    Counting per block and not per optimizer keeps the first update of a parameter whose first
    gradient comes late from being inflated. All counters are one tensor, so that a step's
    bookkeeping takes a fixed number of kernels whatever the number of stacks.
    """

    def __init__(
        self, specs: Sequence[StackSpec], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._specs = specs
        self._parts = [part for spec in specs for part in spec.parts]
        self._sizes = [spec.blocks for spec in specs]
        self._steps = torch.zeros(sum(self._sizes), 1, 1, dtype=dtype, device=device)
        counts = torch.tensor(
            [part.grid.blocks for part in self._parts], dtype=torch.int64, device="cpu"
        )
        numbers = torch.arange(len(counts), device="cpu")
        part_of_block = torch.repeat_interleave(numbers, counts)
        self._part_of_block = part_of_block.to(device).view(-1, 1, 1)
        self._seen: set[Part] = set()
        self._with_moments: set[Part] = set()
        self._last_mask: tuple[tuple[bool, ...], Tensor] | None = None
        # Overwritten at every step; their views by stack are made once.
        self._corrections = [torch.empty_like(self._steps) for _ in range(3)]
        self._views = [self._split(tensor) for tensor in (*self._corrections, self._steps)]

    def per_stack(self) -> Sequence[Tensor]:
        """Views of the counters for each stack, [N, 1, 1]."""
        return self._views[-1]

    def advance(
        self,
        is_active: tuple[bool, ...],
        finite: Tensor,
        betas: tuple[float, float],
        lr: float | Tensor,
    ) -> list[StepInfo]:
        """Counts one step.

        Args:
          is_active: for each part of each stack, whether it has a gradient.
          finite: a boolean scalar; if False, no block takes the step.
          betas: EMA weights of the first and second moment.
          lr: the learning rate.

        Returns:
          For each stack; its corrections are overwritten by the next call.
        """
        new = self._note_seen(is_active)
        live = finite if all(is_active) else self._mask_of(is_active) & finite
        self._steps.add_(live)
        number = live.to(self._steps.dtype)
        decays = [self._split(1 - (1 - beta) * number) for beta in betas]
        first, second, scale = self._corrections
        for beta, correction in zip(betas, (first, second), strict=True):
            bias_correction(beta, self._steps, out=correction)
        torch.mul(first, second.rsqrt(), out=scale)
        fresh: Sequence[Tensor | None] = [None] * len(self._sizes)
        if new:
            masks = self._split(self._mask(tuple(part in new for part in self._parts)))
            fresh = [
                mask if any(part in new for part in spec.parts) else None
                for spec, mask in zip(self._specs, masks, strict=True)
            ]
        columns = (
            self._split(live),
            zip(*decays, strict=True),
            zip(*self._views[:2], strict=True),
            self._views[2],
            self._split(number * lr),
            self._views[3],
            fresh,
            self._ranges(new),
        )
        return [StepInfo(*row) for row in zip(*columns, strict=True)]

    def _note_seen(self, is_active: tuple[bool, ...]) -> set[Part]:
        """The parts that have a gradient for the first time."""
        if len(self._seen) == len(self._parts):
            return set()
        active = {part for part, flag in zip(self._parts, is_active, strict=True) if flag}
        new = active - self._seen
        self._seen |= new
        return new

    def _ranges(self, parts: set[Part]) -> list[tuple[slice, ...]]:
        """The blocks of these parts in each stack, adjacent ones as one range."""
        if not parts:
            return [()] * len(self._specs)
        per_stack = []
        for spec in self._specs:
            ranges: list[slice] = []
            for part in spec.parts:
                if part not in parts:
                    continue
                start, stop = part.offset, part.offset + part.grid.blocks
                if ranges and ranges[-1].stop == start:
                    start = ranges.pop().start
                ranges.append(slice(start, stop))
            per_stack.append(tuple(ranges))
        return per_stack

    def _mask_of(self, is_active: tuple[bool, ...]) -> Tensor:
        """`_mask`, made once for steps with the same parts."""
        if self._last_mask is None or self._last_mask[0] != is_active:
            self._last_mask = is_active, self._mask(is_active)
        return self._last_mask[1]

    def _mask(self, flags: tuple[bool, ...]) -> Tensor:
        """One boolean per block, [sum of N, 1, 1], from one per part."""
        return to_device(flags, self._steps.device)[self._part_of_block]

    def _split(self, tensor: Tensor) -> Sequence[Tensor]:
        """One piece per stack; a scalar serves all."""
        if tensor.dim() == 0:
            return [tensor] * len(self._sizes)
        return tensor.split(self._sizes)

    def mark_seen(self, part: Part) -> None:
        """Notes that a part has averaged gradients before, loaded from a checkpoint."""
        self._seen.add(part)

    def mark_moments(self, part: Part) -> None:
        """Notes that a part has moments already, and its factors begin with the next gradient."""
        self._with_moments.add(part)

    def has_state(self, part: Part) -> bool:
        """Whether there is anything to save of a part."""
        return part in self._seen or part in self._with_moments
