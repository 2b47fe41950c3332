"""The state of all blocks of one shape, and views of it that are made once."""

import dataclasses
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from ..plan.blocking import BlockGrid, Part, StackSpec
from ..plan.options import Grafting
from .config import StateConfig
from .diagonal import AdamState
from .kl_shampoo import KLShampoo
from .memory import Memory
from .preconditioners import InverseRoot, Preconditioner
from .soap import Soap

# Names of moments in memory and in checkpoints. The first two are made when a step needs them.
MOMENTS = ("exp_avg", "momentum_buffer", "exp_avg_sq")

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
    """The grid's blocks [rows * columns, m, n], contiguous, as a view [rows, m, columns, n].

    Strides are those of `matrix_view` where both lie alike in memory, so that torch sees it.
    """
    size = grid.height * grid.width
    return blocks.as_strided(
        (grid.rows, grid.height, grid.columns, grid.width),
        (grid.columns * size, grid.width, grid.width if grid.columns == 1 else size, 1),
        blocks.storage_offset(),
    )


def part_views(spec: StackSpec, blocks: Tensor) -> list[Tensor]:
    """One view [rows, m, columns, n] of a stack's blocks [N, m, n] for each part of its spec."""
    return [
        stack_view(part.grid, blocks.narrow(0, part.offset, part.grid.blocks))
        for part in spec.parts
    ]


class Stack:
    """Gradient buffer, moments and preconditioner of N blocks of shape [m, n].

    Args:
      spec: which parameters' blocks these are.
      config: which state there is.
      steps: gradients averaged so far, [N, 1, 1].
      dtype, device: of all state, unless `config` overrides it.
      memory: of the stacks that this one shares its tensors with; None for none.
      number: of this one among them.

    Attributes:
      spec, steps, dtype, device, memory, number: as given.
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
        memory: Memory | None = None,
        number: int = 0,
    ) -> None:
        self.spec = spec
        self.steps = steps
        self.dtype, self.device = dtype, device
        self.memory = memory_of([spec], dtype, device) if memory is None else memory
        self.number = number
        self.preconditioner: Preconditioner | None = None
        if any(spec.sides):
            self.preconditioner = _METHODS[config.method](spec, config, dtype, device)
        self.diagonal: Grafting | None = (
            config.diagonal if self.preconditioner is None else config.graft
        )
        if self.diagonal not in (None, "sgd"):
            self.moment("exp_avg_sq")
        self.active: Sequence[Part] = ()
        self.is_active: Sequence[bool] = ()
        self._active_views: list[Tensor] | None = None
        self._targets: list[Tensor | None] = []
        self._adam: tuple[Sequence[Sequence[int]], AdamState] | None = None

    def moment(self, name: str) -> Tensor:
        """A tensor [N, m, n] of the memory, made where there is none; the same at every call."""
        return self.memory.view(name, self.number)

    @property
    def buffer(self) -> Tensor:
        """[N, m, n]; takes the gradients and, after a step, has its update.

        Made at the first step that needs it, which for blocks with a fused kernel may never come.
        """
        return self.moment("buffer")

    @property
    def first(self) -> Tensor | None:
        """The first moment, [N, m, n]; None until betas[0] is above 0."""
        return self.moment("exp_avg") if self.memory.has("exp_avg") else None

    @cached_property
    def views(self) -> list[Tensor]:
        """The `part_views` of the buffer."""
        return part_views(self.spec, self.buffer)

    def set_active(self, indices: Container[int]) -> None:
        """Caches the parts of the parameters at `indices`, which have a gradient."""
        self.is_active = [part.index in indices for part in self.spec.parts]
        self.active = [part for part in self.spec.parts if part.index in indices]
        self._active_views = self._adam = None
        self._targets = []

    @property
    def active_views(self) -> list[Tensor]:
        """The `views` of the active parts."""
        if self._active_views is None:
            pairs = zip(self.views, self.is_active, strict=True)
            self._active_views = [view for view, is_active in pairs if is_active]
        return self._active_views

    def destinations(self, grads: Mapping[int, Tensor]) -> Iterator[tuple[Part, Tensor | None]]:
        """Where gradients go: the active parts, with views of the buffer in a gradient's own shape.

        None where blocks do not lie in memory as the gradient does.

        Args:
          grads: by parameter index, always in the same shapes.
        """
        if not self._targets:
            self._targets = [
                view.view(grads[part.index].shape) if _is_in_order(part) else None
                for part, view in zip(self.active, self.active_views, strict=True)
            ]
        return zip(self.active, self._targets, strict=True)

    def adam_state(self, shapes: Sequence[Sequence[int]]) -> AdamState:
        """First moments, second moments and step counts of the active parts.

        Args:
          shapes: of the moments, whose parts are complete parameters; step counts are scalars.
        """
        if self._adam is not None and self._adam[0] == shapes:
            return self._adam[1]
        first, second = (
            [
                state.narrow(0, part.offset, part.grid.blocks).view(shape)
                for part, shape in zip(self.active, shapes, strict=True)
            ]
            for state in (self.moment("exp_avg"), self.moment("exp_avg_sq"))
        )
        state = first, second, [self.steps[part.offset, 0, 0] for part in self.active]
        self._adam = shapes, state
        return state

    def make_room(self, names: Container[str]) -> None:
        """Makes the named moments that otherwise the first step to need them makes."""
        for name in ("exp_avg", "momentum_buffer"):
            if name in names:
                self.moment(name)

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that must be saved, by name; each tensor has one row per block."""
        moments = {n: self.moment(n) for n in MOMENTS if self.memory.has(n)}
        of_factors = self.preconditioner.state_tensors() if self.preconditioner else {}
        return {"step": self.steps, **moments, **of_factors}


def memory_of(specs: Sequence[StackSpec], dtype: torch.dtype, device: torch.device) -> Memory:
    """Memory for stacks."""
    return Memory([(spec.blocks, spec.height, spec.width) for spec in specs], dtype, device)


def needed_moments(betas: tuple[float, float], momentum: float) -> list[str]:
    """The names of the moments that steps with these options make, see `Stack.make_room`."""
    is_needed = {"exp_avg": betas[0] > 0, "momentum_buffer": momentum > 0}
    return [name for name, needed in is_needed.items() if needed]


def block_bytes(
    spec: StackSpec, config: StateConfig, dtype: torch.dtype, moments: Container[str]
) -> int:
    """Bytes of the state of one block of a stack, all of whose tensors have a row per block.

    Args:
      spec: of the stack.
      config, dtype: as for `Stack`.
      moments: `needed_moments`.
    """
    part, elements = spec.parts[0], 1
    if not any(spec.sides):  # moments alone, which for a table is too much to allocate
        elements, spec = spec.height * spec.width, dataclasses.replace(spec, height=1, width=1)
    grid = dataclasses.replace(part.grid, rows=1, columns=1)
    block_spec = dataclasses.replace(spec, parts=(dataclasses.replace(part, grid=grid, offset=0),))
    # Not on the meta device, some of whose operators take seconds to import.
    steps = torch.zeros(1, 1, 1, dtype=dtype, device="cpu")
    stack = Stack(block_spec, config, steps, dtype, steps.device)
    stack.make_room(moments)
    tensors = stack.state_tensors()
    return sum(tensors[name].nbytes * (elements if name != "step" else 1) for name in tensors)


def _is_in_order(part: Part) -> bool:
    """Whether the blocks of a part are the whole matrix, element by element."""
    grid, (rows, columns) = part.grid, part.matrix_shape
    is_whole = (grid.rows * grid.height, grid.columns * grid.width) == (rows, columns)
    return is_whole and (grid.columns == 1 or rows == 1)
