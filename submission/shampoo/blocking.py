"""Geometry: a parameter becomes a matrix, the matrix even blocks, equal blocks one stack.

Nothing here holds state; shapes alone decide, so the same code plans on the meta device.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from torch import Tensor

from .config import BlockingConfig

# Below this, roots cost too little for more cuts to pay.
_NEVER_FORCED_BELOW = 128


@dataclasses.dataclass(frozen=True)
class Tile:
    """A region of a matricised parameter, cut into `rows` x `columns` blocks of one shape.

    Attributes:
      row, column: the region's first row and column in the matrix.
      rows, columns: how many blocks stand below and beside one another.
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
        """Number of blocks in the tile."""
        return self.rows * self.columns

    def of_matrix(self, matrix: Tensor) -> Tensor:
        """The region of `matrix` as a view of shape [rows, height, columns, width]."""
        down, across = matrix.stride()
        return matrix.as_strided(
            (self.rows, self.height, self.columns, self.width),
            (self.height * down, down, self.width * across, across),
            matrix.storage_offset() + self.row * down + self.column * across,
        )

    def of_stack(self, blocks: Tensor) -> Tensor:
        """The same view of this tile's blocks, [blocks, height, width] in a stack."""
        return blocks.unflatten(0, (self.rows, self.columns)).transpose(1, 2)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How one parameter is treated.

    Attributes:
      matrix: rows and columns once matricised; a vector is one row.
      tiles: at most four regions that cover the matrix. What falls to AdamW has no sides; a
        vector's elements are its blocks, so that vectors of all lengths share a stack.
      reason: why the parameter falls to AdamW; empty where it does not.
    """

    matrix: tuple[int, int]
    tiles: tuple[Tile, ...]
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


def plan(shape: Sequence[int], config: BlockingConfig) -> Plan:
    """Plans one parameter of the given shape.

    Dimension 0 stays, all others are merged: [out, in, kh, kw] becomes [out, in*kh*kw].

    >>> plan((1000, 2048), BlockingConfig(block_size=512)).tiles[0].blocks
    8
    >>> plan((512,), BlockingConfig()).reason
    'vector'
    """
    height = shape[0] if len(shape) > 1 else 1
    width = math.prod(shape[1:] if len(shape) > 1 else shape)
    if min(height, width) <= 1:
        length = height * width
        tile = Tile(0, 0, 1, length, 1, 1, (False, False))
        return Plan((1, length), (tile,) if length else (), "vector" if shape else "scalar")
    sides = (height <= config.max_dim, width <= config.max_dim)
    if not all(sides) and (config.oversize == "diagonal" or not any(sides)):
        tile = Tile(0, 0, 1, 1, height, width, (False, False))
        return Plan((height, width), (tile,), f"a dimension over max_dim={config.max_dim}")

    edges = min(height, config.block_size), min(width, config.block_size)
    left = sides[0] and edges[0] <= config.max_aspect * edges[1]
    right = sides[1] and edges[1] <= config.max_aspect * edges[0]
    row_cuts = cut(height, _longest(edges[1], config)) if left else [(1, height)]
    column_cuts = cut(width, _longest(edges[0], config)) if right else [(1, width)]

    tiles = []
    row = 0
    for rows, tile_height in row_cuts:
        column = 0
        for columns, tile_width in column_cuts:
            tile = Tile(row, column, rows, columns, tile_height, tile_width, (left, right))
            tiles.append(tile)
            column += columns * tile_width
        row += rows * tile_height
    return Plan((height, width), tuple(tiles))


def _longest(other: int, config: BlockingConfig) -> int:
    """The longest edge of a block whose other edge is at most `other`."""
    near_square = max(config.block_aspect * other, _NEVER_FORCED_BELOW)
    return min(config.block_size, math.ceil(min(near_square, config.block_size)))


@dataclasses.dataclass(frozen=True)
class Part:
    """Blocks of a parameter that one rank owns: of one tile, adjacent in row-major order.

    Attributes:
      index: the parameter's index in its group.
      matrix: the parameter's shape once matricised.
      number: which of the parameter's tiles the blocks belong to.
      start: the first of them in that tile.
      total: how many blocks that tile has.
      tile: the part's own region.
    """

    index: int
    matrix: tuple[int, int]
    number: int
    start: int
    total: int
    tile: Tile


def whole(index: int, plan: Plan) -> list[Part]:
    """All of a parameter, a part for each tile."""
    return [
        Part(index, plan.matrix, number, 0, tile.blocks, tile)
        for number, tile in enumerate(plan.tiles)
    ]


@dataclasses.dataclass(frozen=True)
class Member(Part):
    """A part's place in a stack.

    Attributes:
      offset: its first block in the stack.
    """

    offset: int


@dataclasses.dataclass(frozen=True)
class StackLayout:
    """All blocks of one shape and with the same preconditioned sides, over all parameters.

    Attributes:
      height, width: shape [m, n] of each block.
      sides: whether there is a left and a right factor.
      members: whose blocks they are, in order.
    """

    height: int
    width: int
    sides: tuple[bool, bool]
    members: tuple[Member, ...]

    @property
    def blocks(self) -> int:
        """Number of blocks N in the stack."""
        return sum(member.tile.blocks for member in self.members)


def stack_layouts(parts: Iterable[Part]) -> list[StackLayout]:
    """Gathers parts of many parameters into stacks."""
    members: dict[tuple[int, int, tuple[bool, bool]], list[Member]] = {}
    for part in parts:
        row = members.setdefault((part.tile.height, part.tile.width, part.tile.sides), [])
        offset = row[-1].offset + row[-1].tile.blocks if row else 0
        row.append(Member(**vars(part), offset=offset))
    return [StackLayout(*key, tuple(row)) for key, row in members.items()]
