"""Geometry: a parameter becomes a matrix, the matrix even blocks, equal blocks one stack.

Nothing here holds state. Shapes alone decide, so the same code plans any rank of any world.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

from .options import BlockingConfig

# Below this, roots cost too little for more cuts to pay.
_NEVER_FORCED_BELOW = 128
# The longest that a convolution's dimension after the second may be, unless it has more outputs.
_LONGEST_KERNEL = 16
# Elements. From here on counters of single elements would be most of a vector's memory.
_LONG_VECTOR = 1 << 16


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
      matrix_shape: rows and columns once matricised, matrices of a stack below one another; a
        vector is one row.
      grids: regions that cover the matrix, at most four for each distinct part of it unless parts
        are cut unevenly. Parameters moved by AdamW have sides (False, False); a vector is a grid
        of 1 x 1 blocks, so that all vectors share one stack.
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


def matrices_of(shape: Sequence[int], config: BlockingConfig) -> tuple[int, int, int]:
    """How many matrices a parameter is, and their rows and columns; a vector is one row.

    >>> matrices_of((64, 3, 7, 7), BlockingConfig()), matrices_of((8, 32, 48), BlockingConfig())
    ((1, 64, 147), (8, 32, 48))
    """
    if len(shape) < 2:
        return 1, 1, math.prod(shape)
    is_convolution = config.matrix_dims == "convolution"
    if config.matrix_dims == "auto":
        is_convolution = all(k <= _LONGEST_KERNEL or k < shape[0] for k in shape[2:])
    if is_convolution:
        return 1, shape[0], math.prod(shape[1:])
    return math.prod(shape[:-2]), shape[-2], shape[-1]


def plan_parameter(shape: Sequence[int], config: BlockingConfig) -> ParameterPlan:
    """Plans one parameter of the given shape.

    The matrices of a stack lie below one another, as they do in memory, and so do the parts of
    each: no block reaches from one into the next.

    Raises:
      ValueError: if `config.split` does not fit.

    >>> plan_parameter((1000, 2048), BlockingConfig(block_size=512)).grids[0].blocks
    8
    >>> plan_parameter((512,), BlockingConfig()).reason
    'vector'
    """
    count, height, width = matrices_of(shape, config)
    if min(count, height, width) == 0 or min(height, width) == 1:
        length = count * height * width
        # Vectors of all lengths share a stack of single elements, each with counters of its own.
        sizes = (1, length, 1, 1) if length < _LONG_VECTOR else (1, 1, 1, length)
        grid = BlockGrid(0, 0, *sizes, (False, False))
        reason = "scalar" if not shape else "vector" if count <= 1 else "stack of vectors"
        return ParameterPlan((1, length), (grid,) if length else (), reason)
    if config.split is not None and sum(config.split) != height:
        raise ValueError(
            f"split must add up to the rows of every matrix of its group, got {config.split}, "
            f"which is {sum(config.split)}, for {height} rows of a parameter of shape "
            f"{tuple(shape)}."
        )
    parts = count * (config.split or (height,))
    runs = [(size, len(list(same))) for size, same in itertools.groupby(parts)]
    matrix_shape = count * height, width
    is_table = all(_is_table(size, width, config) for size, _ in runs)
    if is_table and config.oversize == "diagonal":
        grid = BlockGrid(0, 0, 1, 1, *matrix_shape, (False, False))
        return ParameterPlan(matrix_shape, (grid,), _table_reason(config))
    grids: list[BlockGrid] = []
    row = 0
    for size, number in runs:
        grids.extend(_cut_parts(row, size, number, width, is_table, config))
        row += size * number
    return ParameterPlan(matrix_shape, tuple(grids))


def _is_table(height: int, width: int, config: BlockingConfig) -> bool:
    if isinstance(config.table, bool):
        return config.table
    short, long = sorted((height, width))
    return long > config.max_dim and long > config.table_aspect * short


def _table_reason(config: BlockingConfig) -> str:
    if config.table == "auto":
        limits = f"over max_dim={config.max_dim} and {config.table_aspect:g} times its other side"
        return f"table: {limits}"
    return "table"


def _cut_parts(
    row: int, height: int, number: int, width: int, is_table: bool, config: BlockingConfig
) -> Iterator[BlockGrid]:
    """The grids of `number` matrices [height, width] below one another, from `row` on."""
    edges = min(height, config.block_size), min(width, config.block_size)
    left = edges[0] <= config.max_aspect * edges[1] and not (is_table and height >= width)
    right = edges[1] <= config.max_aspect * edges[0] and not (is_table and height < width)
    row_cuts = cut(height, _longest(edges[1], config)) if left else [(1, height)]
    column_cuts = cut(width, _longest(edges[0], config)) if right else [(1, width)]
    if len(row_cuts) == 1:
        row_cuts = [(number * rows, size) for rows, size in row_cuts]
    else:
        row_cuts = number * row_cuts
    for rows, block_height in row_cuts:
        column = 0
        for columns, block_width in column_cuts:
            yield BlockGrid(row, column, rows, columns, block_height, block_width, (left, right))
            column += columns * block_width
        row += rows * block_height


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
