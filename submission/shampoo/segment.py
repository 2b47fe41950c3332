"""One step of stacks whose elementwise work runs in kernels for all of them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from . import diagonal
from .factor_average import average_factors
from .preconditioners import Eigenbasis
from .stack import Stack
from .step import Number, Rates, StepInfo, StepOptions


class Segment:
    """Stacks that take one step together: all that share a memory, or one of them.

    A step calls `average_factors`, then, after refreshes, `compute_directions` and `finish`.

    Args:
      stacks: all of one memory, whose blocks all take the same step; or a single one.

    Attributes:
      stacks: as given.
    """

    def __init__(self, stacks: Sequence[Stack]) -> None:
        self.stacks = stacks
        self._memory = stacks[0].memory
        self._is_flat = len(stacks) > 1
        self._scale: Number = 1.0
        self._magnitude: Tensor | None = None
        self._magnitudes: list[Tensor] = []
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

    def average_factors(self, info: StepInfo, options: StepOptions) -> None:
        """First part of a step: factors average the gradients in the buffer."""
        preconditioners = [s.preconditioner for s in self.stacks if s.preconditioner is not None]
        if preconditioners:
            buffers = [stack.buffer for stack in self.stacks]
            average_factors(preconditioners, buffers, info, options)

    def compute_directions(
        self, info: StepInfo, options: StepOptions, found_inf: Tensor | None
    ) -> None:
        """Second part, after refreshes: moments average the gradients; directions replace them.

        Args:
          info: of the step.
          options: of the step.
          found_inf: 1 for a step that is skipped; None where the host knows that it is not.
        """
        stack, grad = self.stacks[0], self.buffer
        self._scale, self._magnitude = 1.0, None
        if isinstance(stack.preconditioner, Eigenbasis):
            self._in_bases(info, options)
            return
        method = stack.diagonal
        if method is not None and info.rates.is_uniform and method.has_fused_direction(options):
            average, second = self._tensor("first"), self._tensor("second")
            if options.nesterov:
                average = average.lerp_(grad, info.rates.shares[0]).clone()
            count = stack.steps.view(-1)[0]
            self._magnitude = diagonal.fused_direction(
                grad, average, second, count, found_inf, options
            )
        elif method is not None:
            squares = None if method.second is None else self._tensor("second")
            diagonal.update_second(method.kind, squares, grad, info.rates, options.betas[1])
            average = self._average(grad, info.rates, options)
            self._magnitude, self._scale = diagonal.direction(
                method.kind, squares, average, info.rates, options.eps
            )
        else:
            average = self._average(grad, info.rates, options)
        if stack.preconditioner is None:
            return
        if self._magnitude is grad:  # it would be overwritten
            self._magnitude = grad.clone()
        for stack, part in zip(self.stacks, self._averages(average), strict=True):
            assert stack.preconditioner is not None
            stack.preconditioner.direction(part, info, options, stack.buffer)

    def _averages(self, average: Tensor) -> list[Tensor]:
        """`_parts` of a moment, whose views have been made before."""
        for name in ("first", "buffer"):
            if self._memory.has(name) and average is self._tensor(name):
                return [stack.moment(name) for stack in self.stacks]
        return self._parts(average)

    def _in_bases(self, info: StepInfo, options: StepOptions) -> None:
        """Directions of methods whose first moments are in eigenbases, stack by stack."""
        magnitudes = []
        for stack in self.stacks:
            grad, preconditioner, method = stack.buffer, stack.preconditioner, stack.diagonal
            assert preconditioner is not None
            if method is not None:
                diagonal.update_second(
                    method.kind, method.second, grad, info.rates, options.betas[1]
                )
            rotated = preconditioner.to_basis(grad)
            preconditioner.update_moments(rotated, info, options)
            average = _averaged(rotated, stack, info.rates, options)
            if method is not None:
                returned = preconditioner.from_basis(average)
                magnitude, self._scale = diagonal.direction(
                    method.kind, method.second, returned, info.rates, options.eps
                )
                magnitudes.append(magnitude.flatten())
            preconditioner.direction(average, info, options, stack.buffer)
        if magnitudes:
            joined = torch.cat(magnitudes)
            self._magnitude = joined if self._is_flat else joined.view_as(self.buffer)

    def _average(self, grad: Tensor, rates: Rates, options: StepOptions) -> Tensor:
        """The first moment after this step, or its look-ahead, like `buffer`."""
        if options.betas[0] == 0:
            return grad
        return _advanced(self._tensor("first"), grad, rates, options)

    def _all_norms(self) -> tuple[Tensor, Tensor | None]:
        """Norms [B, 1, 1] of all blocks' directions, and of what is grafted, None if nothing is."""
        if self._norms is None:
            sizes = [len(stack.steps) for stack in self.stacks]
            like = self.stacks[0]
            self._norms = torch.zeros(2, sum(sizes), 1, 1, dtype=like.dtype, device=like.device)
            pairs = zip(*(row.split(sizes) for row in self._norms), strict=True)
            self._norms_of = [(first, second) for first, second in pairs]
        for stack, (norm, _) in zip(self.stacks, self._norms_of, strict=True):
            _block_norms(stack.buffer, norm)
        if self._magnitude is None:
            return self._norms[0], None
        self._magnitudes = self._parts(self._magnitude)
        for part, (_, norm) in zip(self._magnitudes, self._norms_of, strict=True):
            _block_norms(part, norm)
        magnitudes = self._norms[1]
        return self._norms[0], _scaled(magnitudes, self._scale)

    def finish(self, info: StepInfo, options: StepOptions) -> None:
        """Last part: grafting, momentum and the learning rate turn directions into updates.

        Updates are to be subtracted from the weights; they are zero for blocks that take no step,
        whose state stays as it was, bit for bit.

        Args:
          info: of the step.
          options: of the step.
        """
        rates, update = info.rates, self.buffer
        rate: Number = 1.0 if options.momentum > 0 else rates.rate
        if self.stacks[0].preconditioner is None:
            assert self._magnitude is not None
            torch.mul(self._magnitude, self._scale * rate, out=update)
        else:
            self._graft(rates, rate)
        self._magnitude, self._magnitudes = None, []
        if options.momentum > 0:
            self._add_momentum(update, rates, options)

    def _graft(self, rates: Rates, rate: Number) -> None:
        """Gives directions the norms of the magnitudes, and multiplies them with a rate."""
        directions, magnitudes = self._all_norms()
        sizes = [len(stack.steps) for stack in self.stacks]
        if magnitudes is None or self._magnitude is None:
            useless = (~(directions < math.inf)).split(sizes)
            factor = rate / rates.corrections[0]
            for stack, is_useless in zip(self.stacks, useless, strict=True):
                stack.buffer.mul_(factor).masked_fill_(is_useless, 0)
            return
        factors, useless = diagonal.grafting_factors(directions, magnitudes, self._scale)
        factors = _scaled(factors, rate)
        replaces = not rates.are_known or bool(useless.any())
        parts = self._magnitudes
        rows = zip(self.stacks, parts, useless.split(sizes), factors.split(sizes), strict=True)
        for stack, part, is_useless, block_factors in rows:
            if replaces:
                torch.where(is_useless, part, stack.buffer, out=stack.buffer)
            stack.buffer.mul_(block_factors)

    def _add_momentum(self, update: Tensor, rates: Rates, options: StepOptions) -> None:
        """B <- momentum B + P; then P is B, or P + momentum B for Nesterov's look-ahead."""
        momentum, velocity = options.momentum, self._tensor("velocity")
        if not rates.are_known:
            update.mul_(rates.taken)
        velocity.mul_(1 - (1 - momentum) * rates.taken).add_(update)
        if options.nesterov:
            update.add_(velocity, alpha=momentum).mul_(rates.rate)
        else:
            torch.mul(velocity, rates.rate, out=update)


def _averaged(grad: Tensor, stack: Stack, rates: Rates, options: StepOptions) -> Tensor:
    """`Segment._average` of one stack, in the first moment's coordinates."""
    if options.betas[0] == 0:
        return grad
    return _advanced(stack.moment("first"), grad, rates, options)


def _advanced(first: Tensor, grad: Tensor, rates: Rates, options: StepOptions) -> Tensor:
    """Averages a gradient into the first moment; returns that, or its look-ahead."""
    first.lerp_(grad, rates.shares[0])
    if options.nesterov:
        return diagonal.look_ahead(first, grad, options.betas[0])
    return first


def _scaled(values: Tensor, factor: Number) -> Tensor:
    """Values times a factor; no kernel for a factor of 1 that the host knows."""
    return values if not isinstance(factor, Tensor) and factor == 1.0 else values * factor


def _block_norms(blocks: Tensor, out: Tensor) -> None:
    """Writes the Frobenius norm of each block [N, m, n] to [N, 1, 1]."""
    torch.linalg.vector_norm(blocks, dim=(1, 2), keepdim=True, out=out)
