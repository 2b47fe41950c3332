"""The state of all blocks of one shape, and one step of theirs in a fixed number of kernels."""

from collections.abc import Container, Sequence
from functools import cached_property

import torch
from torch import Tensor

from ..plan.blocking import BlockGrid, Part, StackSpec
from . import diagonal
from .config import StateConfig
from .diagonal import AdamState, Diagonal
from .kl_shampoo import KLShampoo
from .preconditioners import InverseRoot, Preconditioner
from .soap import Soap
from .step import StepInfo, StepOptions

_METHODS: dict[str, type[Preconditioner]] = {
    "shampoo": InverseRoot,
    "soap": Soap,
    "kl_shampoo": KLShampoo,
}


def as_matrix(tensor: Tensor, matrix_shape: tuple[int, int]) -> Tensor:
    """This rank's shard of a parameter, as rows of its matrix or, of a single row, columns."""
    if matrix_shape[0] == 1:
        return tensor.reshape(1, tensor.numel())
    return tensor.reshape(-1, matrix_shape[1])


def matrix_view(grid: BlockGrid, matrix: Tensor) -> Tensor:
    """The grid's region of a parameter's matrix as a view [rows, m, columns, n]."""
    down, across = matrix.stride()
    return matrix.as_strided(
        (grid.rows, grid.height, grid.columns, grid.width),
        (grid.height * down, down, grid.width * across, across),
        matrix.storage_offset() + grid.row * down + grid.column * across,
    )


def stack_view(grid: BlockGrid, blocks: Tensor) -> Tensor:
    """The grid's blocks [rows * columns, m, n] as a view [rows, m, columns, n]."""
    return blocks.unflatten(0, (grid.rows, grid.columns)).transpose(1, 2)


class Stack:
    """Gradient buffer, moments and preconditioner of N blocks of shape [m, n].

    Attributes:
      spec: which parameters' blocks these are.
      dtype, device: of all state, unless `config` overrides it.
      first: the first moment, [N, m, n]; None until betas[0] is above 0.
      velocity: the heavy-ball momentum, [N, m, n]; None until `momentum` is above 0.
      steps: gradients averaged so far, a view [N, 1, 1] of the group's counters.
      preconditioner: None where the diagonal method alone moves the blocks.
      diagonal: the diagonal method whose magnitude is grafted; None where there is no grafting.
      active: the parts of parameters that have a gradient this step; it rarely changes.
      is_active: for each part of `spec`, whether it is active.
    """

    def __init__(
        self,
        spec: StackSpec,
        config: StateConfig,
        steps: Tensor,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._shape = (spec.blocks, spec.height, spec.width)
        self.spec = spec
        self.steps = steps
        self.dtype, self.device = dtype, device
        self.first: Tensor | None = None
        self.velocity: Tensor | None = None
        self.preconditioner: Preconditioner | None = None
        if any(spec.sides):
            self.preconditioner = _METHODS[config.method](spec, config, dtype, device)
        kind = config.diagonal if self.preconditioner is None else config.graft
        self.diagonal = Diagonal(kind, self._shape, dtype=dtype, device=device) if kind else None
        self.active: Sequence[Part] = ()
        self.is_active: Sequence[bool] = ()
        self._active_views: list[Tensor] | None = None
        self._adam: tuple[Sequence[Sequence[int]], AdamState] | None = None
        self._magnitude: Tensor | None = None
        self._scale: Tensor | None = None

    @cached_property
    def buffer(self) -> Tensor:
        """[N, m, n]; takes the gradients and, after a step, has its update.

        Made at the first step that needs it, which for blocks with a fused kernel may never come.
        """
        return self._zeros()

    @cached_property
    def views(self) -> list[Tensor]:
        """One view [rows, m, columns, n] of the buffer for each part of the spec."""
        return [
            stack_view(part.grid, self.buffer.narrow(0, part.offset, part.grid.blocks))
            for part in self.spec.parts
        ]

    def set_active(self, indices: Container[int]) -> None:
        """Caches the parts of the parameters at `indices`, which have a gradient."""
        self.is_active = [part.index in indices for part in self.spec.parts]
        self.active = [part for part in self.spec.parts if part.index in indices]
        self._active_views = self._adam = None

    @property
    def active_views(self) -> list[Tensor]:
        """The `views` of the active parts."""
        if self._active_views is None:
            pairs = zip(self.views, self.is_active, strict=True)
            self._active_views = [view for view, is_active in pairs if is_active]
        return self._active_views

    def adam_state(self, shapes: Sequence[Sequence[int]]) -> AdamState:
        """First moments, second moments and step counts of the active parts.

        Args:
          shapes: of the moments, whose parts are complete parameters; step counts are scalars.
        """
        if self._adam is not None and self._adam[0] == shapes:
            return self._adam[1]
        assert self.diagonal is not None and self.diagonal.second is not None
        first, second = (
            [
                state.narrow(0, part.offset, part.grid.blocks).view(shape)
                for part, shape in zip(self.active, shapes, strict=True)
            ]
            for state in (self.ensure_first(), self.diagonal.second)
        )
        state = first, second, [self.steps[part.offset, 0, 0] for part in self.active]
        self._adam = shapes, state
        return state

    def _zeros(self) -> Tensor:
        return torch.zeros(self._shape, dtype=self.dtype, device=self.device)

    def _average(self, grad: Tensor, info: StepInfo, options: StepOptions) -> Tensor:
        """The first moment after this step, or its look-ahead.

        Args:
          grad: in the first moment's coordinates; zero for blocks that take no step.
          info, options: of the step.
        """
        beta = options.betas[0]
        if beta == 0:
            return grad
        first = self.ensure_first()
        first.mul_(info.decays[0]).add_(grad, alpha=1 - beta)
        if options.nesterov:
            return diagonal.look_ahead(first, grad, beta)
        return first

    def ensure_first(self) -> Tensor:
        """The first moment, made where there is none."""
        if self.first is None:
            self.first = self._zeros()
        return self.first

    def ensure_velocity(self) -> Tensor:
        """The heavy-ball momentum, made where there is none."""
        if self.velocity is None:
            self.velocity = self._zeros()
        return self.velocity

    def update_factors(self, skipped: Tensor, info: StepInfo, options: StepOptions) -> None:
        """First part of a step: factors average the gradients in the buffer.

        Args:
          skipped: a boolean scalar on the device; whether a gradient of the step is not finite.
          info: the step of these blocks.
          options: of the step.
        """
        self.buffer.masked_fill_(skipped, 0)
        if self.preconditioner is not None:
            self.preconditioner.update_factors(self.buffer, info, options)

    def compute_direction(self, info: StepInfo, options: StepOptions) -> None:
        """Second part, after refreshes: moments average the gradients; directions replace them."""
        grad, preconditioner = self.buffer, self.preconditioner
        if self.diagonal is not None:
            self.diagonal.update(grad, info, options.betas[1])
        if preconditioner is None:
            assert self.diagonal is not None
            average = self._average(grad, info, options)
            self.buffer.copy_(self.diagonal.direction(average, info, options.eps))
            self._magnitude, self._scale = None, None
            return
        rotated = preconditioner.to_basis(grad)
        preconditioner.update_moments(rotated, info, options)
        average = self._average(rotated, info, options)
        self._scale = info.corrections[0]
        self._magnitude = None
        if self.diagonal is not None:
            in_parameter_basis = preconditioner.from_basis(average)
            self._magnitude = self.diagonal.direction(in_parameter_basis, info, options.eps)
        self.buffer.copy_(preconditioner.direction(average, info, options))

    def norms(self) -> tuple[Tensor, Tensor] | None:
        """Norms [N, 1, 1] of the directions and of the grafted magnitudes; None without these."""
        if self._magnitude is None:
            return None
        return diagonal.block_norms(self.buffer), diagonal.block_norms(self._magnitude)

    def graft_and_scale(
        self, info: StepInfo, options: StepOptions, norms: tuple[Tensor, Tensor] | None
    ) -> None:
        """Last part: grafting, momentum and the learning rate turn directions into updates.

        Updates are to be subtracted from the weights; they are zero for blocks that take no step,
        whose state stays as it was, bit for bit.

        Args:
          info, options: of the step.
          norms: `norms`, or those of the layers that the blocks belong to; None for no grafting.
        """
        update = self.buffer
        if norms is not None:
            assert self._magnitude is not None
            ratio, usable = diagonal.grafting_ratio(*norms)
            torch.where(usable, update.mul_(ratio), self._magnitude, out=update)
        elif self._scale is not None:
            norm = diagonal.block_norms(update)
            update.div_(self._scale).masked_fill_(~norm.isfinite(), 0)
        self._magnitude = None
        if options.momentum > 0:
            update = self._with_momentum(update, info, options)
        torch.mul(update, info.rate, out=self.buffer)

    def _with_momentum(self, update: Tensor, info: StepInfo, options: StepOptions) -> Tensor:
        """B <- momentum B + P; B, or P + momentum B for Nesterov's look-ahead."""
        momentum, velocity = options.momentum, self.ensure_velocity()
        live = info.live.to(update.dtype)
        update = update.mul_(live)
        velocity.mul_(1 - (1 - momentum) * live).add_(update)
        return update.add_(velocity, alpha=momentum) if options.nesterov else velocity

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that must be saved, by name; each tensor has one row per block."""
        tensors = {"step": self.steps}
        if self.first is not None:
            tensors["exp_avg"] = self.first
        if self.velocity is not None:
            tensors["momentum_buffer"] = self.velocity
        if self.diagonal is not None and self.diagonal.second is not None:
            tensors["exp_avg_sq"] = self.diagonal.second
        if self.preconditioner is not None:
            tensors.update(self.preconditioner.state_tensors())
        return tensors
