"""Gradients counted per block, and the masks, decays and corrections that follow from them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..plan.blocking import Part, StackSpec
from .devices import is_true, to_device
from .step import Number, Rates, StepInfo


class Counters:
    """One counter per block for all stacks of a group on one device.

    Counting per block and not per optimizer keeps the first update of a parameter whose first
    gradient comes late from being inflated. All counters are one tensor, so that a step's
    bookkeeping takes a fixed number of kernels whatever the number of stacks; and as long as all
    blocks have taken the same steps, their rates are single numbers.

    Attributes:
      per_stack: views of the counters for each stack, [N, 1, 1].
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
        part_of_block = torch.repeat_interleave(numbers, counts, output_size=sum(self._sizes))
        self._part_of_block = part_of_block.to(device).view(-1, 1, 1)
        self._seen: set[Part] = set()
        self._unrefreshed: set[Part] = set()
        self._with_moments: set[Part] = set()
        self._last_mask: tuple[tuple[bool, ...], Tensor] | None = None
        self.per_stack = self._split(self._steps)
        self._are_equal = True
        self._is_written = False
        self._one = self._steps.view(-1)[:1].view(()) if self._sizes else None
        self._constants: tuple[tuple[float, float], tuple[Tensor, Tensor]] | None = None

    def advance(
        self,
        is_active: tuple[bool, ...],
        finite: Tensor,
        betas: tuple[float, float],
        lr: float | Tensor,
        is_known: bool,
    ) -> list[StepInfo]:
        """Counts one step.

        Args:
          is_active: for each part of each stack, whether it has a gradient.
          finite: a boolean scalar; if False, no block takes the step.
          betas: EMA weights of the first and second moment.
          lr: the learning rate.
          is_known: whether the host knows that `finite` is True and may read counters.

        Returns:
          For each stack.
        """
        if not self._sizes:
            return []
        if self._is_written and is_known:
            self.compare()
        new = self.note(is_active)
        all_active = all(is_active)
        self._are_equal &= all_active
        live = finite if all_active else self._mask_of(is_active) & finite
        self._steps.add_(live)
        rates = self._rates(live, betas, lr, is_known)
        columns = self._split(live), self.per_stack, self._ranges(new), rates
        return [StepInfo(*row) for row in zip(*columns, strict=True)]

    def after_step(self) -> list[StepInfo]:
        """What a refresh outside of a step needs to know of each stack; the rates are of no use."""
        new, self._unrefreshed = self._unrefreshed, set()
        live = self._split(self._steps > 0)
        no_rates = Rates(0.0, (0.0, 0.0), (1.0, 1.0), 0.0, lambda: (1.0, 1.0), is_uniform=True)
        rows = zip(live, self.per_stack, self._ranges(new), strict=True)
        return [StepInfo(is_live, steps, blocks, no_rates) for is_live, steps, blocks in rows]

    def _rates(
        self, live: Tensor, betas: tuple[float, float], lr: float | Tensor, is_known: bool
    ) -> Sequence[Rates]:
        """The rates of each stack."""
        if self._are_equal and is_known:
            assert self._one is not None
            count = max(float(self._one), 1.0)
            corrections = _correction(betas[0], count), _correction(betas[1], count)
            pairs = (1 - betas[0], 1 - betas[1]), (float(betas[0]), float(betas[1]))
            known = Rates(1.0, *pairs, float(lr), lambda: corrections, is_uniform=True)
            return [known] * len(self._sizes)
        taken = live.to(self._steps.dtype)
        shape = (2,) + (1,) * taken.dim()
        weights, logarithms = self._constants_of(betas)
        shares = weights.view(shape) * taken
        decays = 1 - shares
        rate = taken * lr
        if self._are_equal:
            one = self._one
            assert one is not None

            def corrected() -> tuple[Number, Number]:
                first, second = torch.expm1(logarithms * one.clamp_min(1)).neg_()
                return first, second

            split = (shares[0], shares[1]), (decays[0], decays[1])
            return [Rates(taken, *split, rate, corrected, is_uniform=True)] * len(self._sizes)
        steps = self._steps.clamp_min(1)
        bias_corrections = torch.expm1(logarithms.view(2, 1, 1, 1) * steps).neg_()
        rows = taken, rate, *shares, *decays, *bias_corrections
        return [_rates_of(*row) for row in zip(*map(self._split, rows), strict=True)]

    def _constants_of(self, betas: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """1 - beta, and the logarithm of beta, of both; made once for steps with the same betas."""
        if self._constants is None or self._constants[0] != betas:
            logarithms = [math.log(beta) if beta > 0 else -math.inf for beta in betas]
            rows = [[1 - beta for beta in betas], logarithms]
            values = to_device(rows, self._steps.device, self._steps.dtype)
            self._constants = betas, (values[0], values[1])
        return self._constants[1]

    def note(self, is_active: tuple[bool, ...]) -> set[Part]:
        """Notes which parts have a gradient; returns those that have one for the first time."""
        if len(self._seen) == len(self._parts):
            self._unrefreshed = set()
            return self._unrefreshed
        active = {part for part, flag in zip(self._parts, is_active, strict=True) if flag}
        new = active - self._seen
        self._seen |= new
        self._unrefreshed = new
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

    def compare(self) -> None:
        """Notes whether all counters are equal, after some have been loaded; the host waits."""
        self._is_written = False
        if self._sizes:
            are_equal = (self._steps == self._steps.view(-1)[:1]).all()
            self._are_equal = is_true(are_equal, otherwise=False)

    def mark_written(self) -> None:
        """Notes that counters were written to and may differ, until the host compares them."""
        self._are_equal, self._is_written = False, True

    def has_state(self, part: Part) -> bool:
        """Whether there is anything to save of a part."""
        return part in self._seen or part in self._with_moments


def _rates_of(
    taken: Tensor, rate: Tensor, s1: Tensor, s2: Tensor, d1: Tensor, d2: Tensor, *c: Tensor
) -> Rates:
    """The rates of one stack, whose blocks may differ."""
    return Rates(taken, (s1, s2), (d1, d2), rate, lambda: (c[0], c[1]), is_uniform=False)


def _correction(beta: float, steps: float) -> float:
    """1 - beta**steps, accurate for beta near 1 (Kingma & Ba 2015, arXiv:1412.6980, section 3)."""
    return -math.expm1(steps * math.log(beta)) if beta > 0 else 1.0
