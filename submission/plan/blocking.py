"""Geometry: a parameter becomes a matrix, the matrix even blocks, equal blocks one stack.

Nothing here holds state. Shapes alone decide, so the same code plans any rank of any world.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from .options import BlockingConfig

# Below this, roots cost too little for more cuts to pay.
_NEVER_FORCED_BELOW = 128


@dataclasses.dataclass(frozen=True)
class BlockGrid:
    """A region of a matricised parameter, cut into `rows` x `columns` blocks of one shape.

    Attributes:
      row, column: the region's first row and column in the matrix.
      rows, columns: number of blocks below and beside one another.
      height, width: shape [m, n] of each block.
      sides: whether the blocks are preconditioned on the left and on the right.
    """

    row: int
    column: int
    rows: int
    columns: int
    height: int
    width: int
    sides: tuple[bool, bool]

    @property
    def blocks(self) -> int:
        """Number of blocks in the grid."""
        return self.rows * self.columns

    @property
    def elements(self) -> int:
        """Number of elements in the grid."""
        return self.blocks * self.height * self.width


@dataclasses.dataclass(frozen=True)
class ParameterPlan:
    """How one parameter is treated.

    Attributes:
      matrix_shape: rows and columns once matricised; a vector is one row.
      grids: at most four regions that cover the matrix. Parameters moved by AdamW have sides
        (False, False); a vector is a grid of 1 x 1 blocks, so that all vectors share one stack.
      reason: why the parameter is moved by AdamW; empty if it is preconditioned.
    """

    matrix_shape: tuple[int, int]
    grids: tuple[BlockGrid, ...]
    reason: str = ""


def cut(length: int, block_size: int) -> list[tuple[int, int]]:
    """Cuts `length` into the fewest parts of at most `block_size`, as [(count, size), ...].

    Sizes differ by at most one, so no block is a sliver.

    >>> cut(1000, 512), cut(1001, 512), cut(7, 8)
    ([(2, 500)], [(1, 501), (1, 500)], [(1, 7)])
    """
    parts = -(-length // block_size)
    size, larger = divmod(length, parts)
    return [(n, s) for n, s in ((larger, size + 1), (parts - larger, size)) if n]


def plan_parameter(shape: Sequence[int], config: BlockingConfig) -> ParameterPlan:
    """Plans one parameter of the given shape.

    Dimension 0 stays, all others are merged: [out, in, kh, kw] becomes [out, in*kh*kw].

    >>> plan_parameter((1000, 2048), BlockingConfig(block_size=512)).grids[0].blocks
    8
    >>> plan_parameter((512,), BlockingConfig()).reason
    'vector'
    """
    height = shape[0] if len(shape) > 1 else 1
    width = math.prod(shape[1:] if len(shape) > 1 else shape)
    if min(height, width) <= 1:
        length = height * width
        grid = BlockGrid(0, 0, 1, length, 1, 1, (False, False))
        return ParameterPlan(
            (1, length), (grid,) if length else (), "vector" if shape else "scalar"
        )
    sides = (height <= config.max_dim, width <= config.max_dim)
    if not all(sides) and (config.oversize == "diagonal" or not any(sides)):
        grid = BlockGrid(0, 0, 1, 1, height, width, (False, False))
        return ParameterPlan((height, width), (grid,), f"a dimension over max_dim={config.max_dim}")

    edges = min(height, config.block_size), min(width, config.block_size)
    left = sides[0] and edges[0] <= config.max_aspect * edges[1]
    right = sides[1] and edges[1] <= config.max_aspect * edges[0]
    row_cuts = cut(height, _longest(edges[1], config)) if left else [(1, height)]
    column_cuts = cut(width, _longest(edges[0], config)) if right else [(1, width)]

    grids = []
    row = 0
    for rows, block_height in row_cuts:
        column = 0
        for columns, block_width in column_cuts:
            grid = BlockGrid(row, column, rows, columns, block_height, block_width, (left, right))
            grids.append(grid)
            column += columns * block_width
        row += rows * block_height
    return ParameterPlan((height, width), tuple(grids))


def _longest(opposite: int, config: BlockingConfig) -> int:
    """The longest edge of a block whose opposite edge is at most `opposite`."""
    near_square = max(config.block_aspect * opposite, _NEVER_FORCED_BELOW)
    return min(config.block_size, math.ceil(min(near_square, config.block_size)))


@dataclasses.dataclass(frozen=True)
class Part:
    """Blocks of a parameter that one rank owns: of one grid, adjacent in row-major order.

    Attributes:
      index: the parameter's index in its group.
      matrix_shape: the parameter's shape once matricised.
      number: index of the grid in `ParameterPlan.grids`.
      start: index of the part's first block in that grid.
      total: number of blocks in that grid.
      grid: the part's own region.
      offset: index of the part's first block in its stack; 0 until `stack_specs` stacks it.
    """

    index: int
    matrix_shape: tuple[int, int]
    number: int
    start: int
    total: int
    grid: BlockGrid
    offset: int = 0


def parts_of(index: int, plan: ParameterPlan) -> list[Part]:
    """All blocks of the parameter at `index`, one part for each grid."""
    return [
        Part(index, plan.matrix_shape, number, 0, grid.blocks, grid)
        for number, grid in enumerate(plan.grids)
    ]


@dataclasses.dataclass(frozen=True)
class StackSpec:
    """All blocks of one shape and with the same preconditioned sides, over all parameters.

    Attributes:
      height, width: shape [m, n] of each block.
      sides: whether there is a left and a right factor.
      parts: the parts that are stacked, in order.
    """

    height: int
    width: int
    sides: tuple[bool, bool]
    parts: tuple[Part, ...]

    @property
    def blocks(self) -> int:
        """Number of blocks N in the stack."""
        return sum(part.grid.blocks for part in self.parts)

    @property
    def elements(self) -> int:
        """Number of elements N * m * n in the stack."""
        return self.blocks * self.height * self.width


def stack_specs(parts: Iterable[Part]) -> list[StackSpec]:
    """Gathers parts of many parameters into stacks."""
    stacks: dict[tuple[int, int, tuple[bool, bool]], list[Part]] = {}
    for part in parts:
        row = stacks.setdefault((part.grid.height, part.grid.width, part.grid.sides), [])
        offset = row[-1].offset + row[-1].grid.blocks if row else 0
        row.append(dataclasses.replace(part, offset=offset))
    return [StackSpec(*key, tuple(row)) for key, row in stacks.items()]
