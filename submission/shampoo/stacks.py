"""The state of all blocks of one shape, and one step of theirs in a fixed number of kernels."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..plan.blocking import BlockGrid, StackSpec
from . import grafting
from .config import StateConfig
from .counters import Tick
from .eigenvalue_corrected import EigenvalueCorrected
from .grafting import Diagonal
from .kullback_leibler import KullbackLeibler
from .preconditioners import Preconditioner
from .root_inverse import RootInverse

_METHODS: dict[str, type[Preconditioner]] = {
    "shampoo": RootInverse,
    "soap": EigenvalueCorrected,
    "kl_shampoo": KullbackLeibler,
}


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
      layout: which parameters' blocks these are.
      dtype, device: of all state but what `config` says otherwise of.
      first: the first moment, [N, m, n]; None until betas[0] is above 0.
      velocity: the heavy-ball momentum, [N, m, n]; None until `momentum` is above 0.
      steps: gradients averaged so far, a view [N, 1, 1] of the group's counters.
      preconditioner: None where the diagonal method alone moves the blocks.
      diagonal: the diagonal method whose magnitude is grafted; None where there is no grafting.
    """

    def __init__(
        self,
        layout: StackSpec,
        config: StateConfig,
        steps: Tensor,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (layout.blocks, layout.height, layout.width)
        self.layout = layout
        self.steps = steps
        self.dtype, self.device = dtype, device
        self.first: Tensor | None = None
        self.velocity: Tensor | None = None
        self.preconditioner: Preconditioner | None = None
        if any(layout.sides):
            self.preconditioner = _METHODS[config.method](layout, config, dtype, device)
        kind = config.diagonal if self.preconditioner is None else config.graft
        self.diagonal = Diagonal(kind, shape, dtype=dtype, device=device) if kind else None
        self._magnitude: Tensor | None = None
        self._scale: Tensor | None = None

    @cached_property
    def buffer(self) -> Tensor:
        """[N, m, n]; gradients go in and, after a step, its update comes out.

        Made at the first step that needs it, which for blocks with a fused kernel may never come.
        """
        return self._zeros()

    @cached_property
    def views(self) -> list[Tensor]:
        """One view [rows, m, columns, n] of the buffer for each member of the layout."""
        return [
            stack_view(member.grid, self.buffer.narrow(0, member.offset, member.grid.blocks))
            for member in self.layout.parts
        ]

    def _zeros(self) -> Tensor:
        shape = (self.layout.blocks, self.layout.height, self.layout.width)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def average(self, grad: Tensor, tick: Tick, options: Mapping[str, Any]) -> Tensor:
        """The first moment after this step, looking ahead where that is asked for.

        Args:
          grad: in the first moment's coordinates; zero for blocks that take no step.
          tick, options: as for `advance`.
        """
        beta = options["betas"][0]
        if beta == 0:
            return grad
        first = self.ensure_first()
        first.mul_(tick.decays[0]).add_(grad, alpha=1 - beta)
        if options["nesterov"]:
            return grafting.look_ahead(first, grad, beta)
        return first

    def ensure_first(self) -> Tensor:
        """The first moment, from now on."""
        if self.first is None:
            self.first = self._zeros()
        return self.first

    def ensure_velocity(self) -> Tensor:
        """The heavy-ball momentum, from now on."""
        if self.velocity is None:
            self.velocity = self._zeros()
        return self.velocity

    def observe(self, spoilt: Tensor, tick: Tick, options: Mapping[str, Any]) -> None:
        """First part of a step: factors take the gradients in the buffer.

        Args:
          spoilt: a boolean scalar on the device; whether any gradient of the step is not finite.
          tick: what the step means for these blocks.
          options: the parameter group.
        """
        self.buffer.masked_fill_(spoilt, 0)
        if self.preconditioner is not None:
            self.preconditioner.observe(self.buffer, tick, options)

    def advance(self, tick: Tick, options: Mapping[str, Any]) -> None:
        """Second part, after refreshes: moments take the gradients, the buffer the direction."""
        beta2, eps = options["betas"][1], options["eps"]
        grad, preconditioner = self.buffer, self.preconditioner
        if self.diagonal is not None:
            self.diagonal.observe(grad, tick, beta2)
        if preconditioner is None:
            assert self.diagonal is not None
            average = self.average(grad, tick, options)
            self.buffer.copy_(self.diagonal.direction(average, tick, eps))
            self._magnitude, self._scale = None, None
            return
        turned = preconditioner.into(grad)
        preconditioner.track(turned, tick, options)
        average = self.average(turned, tick, options)
        self._scale = tick.corrections[0]
        self._magnitude = None
        if self.diagonal is not None:
            here = preconditioner.out(average)
            self._magnitude = self.diagonal.direction(here, tick, eps)
        self.buffer.copy_(preconditioner.direction(average, tick, options))

    def norms(self) -> tuple[Tensor, Tensor] | None:
        """Norms [N, 1, 1] of the directions and of what is to be grafted onto them, if anything."""
        if self._magnitude is None:
            return None
        return grafting.norms(self.buffer), grafting.norms(self._magnitude)

    def conclude(
        self, tick: Tick, options: Mapping[str, Any], norms: tuple[Tensor, Tensor] | None
    ) -> None:
        """Last part: grafting, momentum and the learning rate turn directions into updates.

        Updates are to be subtracted from the weights; they are zero for blocks that take no step,
        whose state stays as it was, bit for bit.

        Args:
          norms: what to match, of blocks or of the layers they belong to; None for no grafting.
        """
        update = self.buffer
        if norms is not None:
            assert self._magnitude is not None
            ratio, usable = grafting.ratio(*norms)
            torch.where(usable, update.mul_(ratio), self._magnitude, out=update)
        elif self._scale is not None:
            norm = grafting.norms(update)
            update.div_(self._scale).masked_fill_(~norm.isfinite(), 0)
        self._magnitude = None
        if options["momentum"] > 0:
            update = self._with_momentum(update, tick, options)
        torch.mul(update, tick.rate, out=self.buffer)

    def _with_momentum(self, update: Tensor, tick: Tick, options: Mapping[str, Any]) -> Tensor:
        """B <- momentum B + P; B, or P + momentum B for Nesterov's look-ahead."""
        momentum, velocity = options["momentum"], self.ensure_velocity()
        live = tick.live.to(update.dtype)
        update = update.mul_(live)
        velocity.mul_(1 - (1 - momentum) * live).add_(update)
        return update.add_(velocity, alpha=momentum) if options["nesterov"] else velocity

    def options(self, group: Mapping[str, Any]) -> Mapping[str, Any]:
        """The group's options, with what "None" means for these blocks."""
        if group["exponent"] is not None or self.preconditioner is None:
            return group
        return {**group, "exponent": self.preconditioner.exponent}

    def refreshed(self, side: int, blocks: slice | Tensor, result: Any, live: Tensor) -> None:
        """Takes over the result of a refresh, see `Preconditioner.install`."""
        assert self.preconditioner is not None
        self.preconditioner.install(side, blocks, result, live, self.first)

    def restore(self) -> None:
        """Takes up what a loaded state says is owed."""
        for side in self.preconditioner.sides if self.preconditioner else ():
            if side is not None:
                side.restore()

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
            tensors.update(self.preconditioner.squares())
            tensors["factor_weight"] = self.preconditioner.weight
            for name, side in zip(("left", "right"), self.preconditioner.sides, strict=True):
                if side is not None:
                    ends = side.state_tensors()
                    tensors.update({f"{name}{end}": tensor for end, tensor in ends.items()})
        return tensors
