"""One step of stacks whose elementwise work runs in kernels for all of them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from . import diagonal
from .preconditioners import Eigenbasis, Preconditioner
from .stack import Stack
from .step import Number, Rates, StepInfo, StepOptions


class Segment:
    """Stacks that take one step together: all that share a memory, or one of them.

    A step calls `update_factors`, then, after refreshes, `compute_updates`.

    Args:
      stacks: all of one memory, whose blocks all take the same step; or a single one.

    Attributes:
      stacks: as given.
    """

    def __init__(self, stacks: Sequence[Stack]) -> None:
        self.stacks = stacks
        self._memory = stacks[0].memory
        self._is_flat = len(stacks) > 1
        self._sizes = [len(stack.steps) for stack in stacks]
        self._norms: Tensor | None = None
        self._norms_of: list[tuple[Tensor, Tensor]] = []

    def _tensor(self, name: str) -> Tensor:
        return self._memory.flat(name) if self._is_flat else self.stacks[0].moment(name)

    @property
    def buffer(self) -> Tensor:
        """Gradients, and after a step updates: [elements], or [N, m, n] of a single stack."""
        return self._tensor("buffer")

    def _parts(self, tensor: Tensor) -> list[Tensor]:
        """The part of each stack, [N, m, n], of a tensor like `buffer`."""
        return self._memory.split(tensor) if self._is_flat else [tensor]

    def update_factors(self, info: StepInfo, options: StepOptions) -> None:
        """First part of a step: factors average the gradients in the buffer."""
        remaining = [
            (stack.preconditioner, stack.buffer)
            for stack in self.stacks
            if stack.preconditioner is not None
            and not stack.preconditioner.update_factors(stack.buffer, info, options)
        ]
        if remaining:
            _average_outer_products(remaining, info, options)

    def compute_updates(
        self, info: StepInfo, options: StepOptions, found_inf: Tensor | None
    ) -> None:
        """Second part, after refreshes: updates replace the gradients in the buffer.

        Updates are to be subtracted from the weights; they are zero for blocks that take no step,
        whose state stays as it was, bit for bit.

        Args:
          info: of the step.
          options: of the step.
          found_inf: 1 for a step that is skipped; None where the host knows that it is not.
        """
        rates, update = info.rates, self.buffer
        rate: Number = 1.0 if options.momentum > 0 else rates.rate
        if isinstance(self.stacks[0].preconditioner, Eigenbasis):
            self._graft(*self._directions_in_bases(info, options), rates, rate)
        else:
            average, magnitude, scale = self._moments(info, options, found_inf)
            if self.stacks[0].preconditioner is None:
                assert magnitude is not None
                torch.mul(magnitude, scale * rate, out=update)
            else:
                if magnitude is update:  # it would be overwritten
                    magnitude = magnitude.clone()
                for stack, part in zip(self.stacks, self._parts(average), strict=True):
                    assert stack.preconditioner is not None
                    stack.preconditioner.direction(part, info, options, stack.buffer)
                parts = [] if magnitude is None else self._parts(magnitude)
                self._graft(parts, scale, rates, rate)
        if options.momentum > 0:
            self._add_momentum(update, rates, options)

    def _moments(
        self, info: StepInfo, options: StepOptions, found_inf: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Number]:
        """Moments average the gradients.

        Returns:
          the first moment or its look-ahead; and the diagonal method's step for a learning rate of
          1, as a tensor, None without such a method, and what it is to be multiplied with.
        """
        stack, grad, rates = self.stacks[0], self.buffer, info.rates
        kind = stack.diagonal
        if kind is None:
            return self._average(grad, rates, options), None, 1.0
        second = None if kind == "sgd" else self._tensor("exp_avg_sq")
        if rates.is_uniform and diagonal.is_fused(kind, stack.device, options):
            assert second is not None
            average = self._tensor("exp_avg")
            if options.nesterov:
                average = average.lerp_(grad, rates.shares[0]).clone()
            count = stack.steps.view(-1)[0]
            step = diagonal.fused_direction(grad, average, second, count, found_inf, options)
            return average, step, 1.0
        average = self._average(grad, rates, options)
        return average, *diagonal.direction(kind, second, grad, average, rates, options)

    def _average(self, grad: Tensor, rates: Rates, options: StepOptions) -> Tensor:
        """The first moment after this step, or its look-ahead, like `buffer`."""
        if options.betas[0] == 0:
            return grad
        return diagonal.averaged(self._tensor("exp_avg"), grad, rates, options)

    def _directions_in_bases(
        self, info: StepInfo, options: StepOptions
    ) -> tuple[list[Tensor], Number]:
        """Directions of methods whose first moments are in eigenbases, stack by stack.

        Returns:
          the diagonal method's steps by stack, if there is such a method, and their factor.
        """
        magnitudes: list[Tensor] = []
        scale: Number = 1.0
        for stack in self.stacks:
            grad, preconditioner, kind = stack.buffer, stack.preconditioner, stack.diagonal
            assert isinstance(preconditioner, Eigenbasis)
            average = rotated = preconditioner.to_basis(grad)
            preconditioner.update_moments(rotated, info, options)
            if options.betas[0] > 0:
                average = diagonal.averaged(stack.moment("exp_avg"), rotated, info.rates, options)
            if kind is not None:
                second = None if kind == "sgd" else stack.moment("exp_avg_sq")
                returned = preconditioner.from_basis(average)
                magnitude, scale = diagonal.direction(
                    kind, second, grad, returned, info.rates, options
                )
                magnitudes.append(magnitude)
            preconditioner.direction(average, info, options, stack.buffer)
        return magnitudes, scale

    def _graft(
        self, magnitudes: Sequence[Tensor], scale: Number, rates: Rates, rate: Number
    ) -> None:
        """Gives directions the norms of the magnitudes, and multiplies them with a rate.

        Args:
          magnitudes: of each stack, to be multiplied with `scale`; empty without grafting.
          scale: as above.
          rates: of the step.
          rate: as above.
        """
        directions, norms = self._block_norms(magnitudes)
        if not magnitudes:
            useless = (~(directions < math.inf)).split(self._sizes)
            factor = rate / rates.corrections[0]
            for stack, is_useless in zip(self.stacks, useless, strict=True):
                stack.buffer.mul_(factor).masked_fill_(is_useless, 0)
            return
        factors, useless = diagonal.grafting_factors(directions, _scaled(norms, scale), scale)
        factors = _scaled(factors, rate)
        replaces = not rates.are_known or bool(useless.any())
        by_stack = useless.split(self._sizes), factors.split(self._sizes)
        rows = zip(self.stacks, magnitudes, *by_stack, strict=True)
        for stack, magnitude, is_useless, block_factors in rows:
            if replaces:
                torch.where(is_useless, magnitude, stack.buffer, out=stack.buffer)
            stack.buffer.mul_(block_factors)

    def _block_norms(self, magnitudes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Frobenius norms [B, 1, 1] of all blocks' directions, and of their magnitudes."""
        if self._norms is None:
            like = self.stacks[0]
            self._norms = torch.zeros(
                2, sum(self._sizes), 1, 1, dtype=like.dtype, device=like.device
            )
            pairs = zip(*(row.split(self._sizes) for row in self._norms), strict=True)
            self._norms_of = [(first, second) for first, second in pairs]
        for stack, (norm, _) in zip(self.stacks, self._norms_of, strict=True):
            torch.linalg.vector_norm(stack.buffer, dim=(1, 2), keepdim=True, out=norm)
        for magnitude, (_, norm) in zip(magnitudes, self._norms_of, strict=False):
            torch.linalg.vector_norm(magnitude, dim=(1, 2), keepdim=True, out=norm)
        return self._norms[0], self._norms[1]

    def _add_momentum(self, update: Tensor, rates: Rates, options: StepOptions) -> None:
        """B <- momentum B + P; then P is B, or P + momentum B for Nesterov's look-ahead."""
        momentum, velocity = options.momentum, self._tensor("momentum_buffer")
        if not rates.are_known:
            update.mul_(rates.taken)
        velocity.mul_(1 - (1 - momentum) * rates.taken).add_(update)
        if options.nesterov:
            update.add_(velocity, alpha=momentum).mul_(rates.rate)
        else:
            torch.mul(velocity, rates.rate, out=update)


def _average_outer_products(
    rows: Sequence[tuple[Preconditioner, Tensor]], info: StepInfo, options: StepOptions
) -> None:
    """L <- b L + (1 - b) G G^T and R <- b R + (1 - b) G^T G for gradients G [N, m, n], b = beta2.

    Of blocks that take no step L and R stay as they are, their gradients being zero
    (Gupta et al. 2018, arXiv:1802.09568, algorithm 1, with an EMA instead of a sum).

    Args:
      rows: preconditioners and gradients of stacks that take the same step; of one stack, if its
        blocks differ.
      info: of the step.
      options: of the step.
    """
    decay, share = info.rates.decays[1], info.rates.shares[1]
    remaining: Number | None = decay
    weights = [preconditioner.weight for preconditioner, _ in rows]
    if isinstance(decay, Tensor) and decay.dim():
        weights[0].mul_(decay).add_(share)
    else:
        torch._foreach_mul_(weights, decay)
        if isinstance(share, Tensor):
            # Without an alpha torch takes a scalar for a number, which the host would wait for.
            torch._foreach_add_(weights, share, alpha=1)
        else:
            torch._foreach_add_(weights, share)
        factors = [f for preconditioner, _ in rows for f in preconditioner.factors.values()]
        if isinstance(decay, Tensor) and all(f.matrix.storage.dtype == f.dtype for f in factors):
            torch._foreach_mul_([factor.matrix.storage for factor in factors], decay)
            remaining = None
    for preconditioner, grad in rows:
        pairs = preconditioner.pairs(grad)
        for factor, pair in zip(preconditioner.factors.values(), pairs, strict=True):
            factor.matrix.average(pair, remaining, 1 - options.betas[1], options.refresh_step)


def _scaled(values: Tensor, factor: Number) -> Tensor:
    """Values times a factor; no kernel for a factor of 1 that the host knows."""
    return values if not isinstance(factor, Tensor) and factor == 1.0 else values * factor
