"""How the reference cuts parameters, one slice after the other, and when blocks are refreshed."""

import itertools
import math
from collections.abc import Sequence

from .options import BlockingConfig, ShampooOptions

_NEVER_CUT_BELOW = 128
_LONGEST_KERNEL = 16
LEFT, RIGHT = 0, 1
# Rows, columns, and whether there is a left and a right factor.
Area = tuple[slice, slice, bool, bool]
# Their sizes, and the same.
Key = tuple[int, int, bool, bool]


def even_slices(start: int, length: int, block_size: int) -> list[slice]:
    """Cuts a range into the fewest even parts of at most `block_size`, larger parts first."""
    parts = math.ceil(length / block_size)
    sizes = [length // parts + (part < length % parts) for part in range(parts)]
    starts = itertools.accumulate([start, *sizes])
    return [slice(a, b) for a, b in itertools.pairwise(starts)]


def is_stack(shape: Sequence[int], config: BlockingConfig) -> bool:
    """Whether the last two dimensions are matrices, and those before count them."""
    if len(shape) < 3 or config.matrix_dims != "auto":
        return len(shape) >= 3 and config.matrix_dims == "stack"
    return any(size > _LONGEST_KERNEL and size >= shape[0] for size in shape[2:])


def cut(shape: Sequence[int], config: BlockingConfig) -> list[Area]:
    """The blocks of a parameter, row by row of the matrices below one another.

    A parameter that falls to the diagonal method is one block without factors.
    """
    height, width = ([1, 1, *shape])[-2:]
    if len(shape) >= 3 and not is_stack(shape, config):
        height, width = shape[0], math.prod(shape[1:])
    rows = math.prod(shape) // width
    whole = [(slice(0, rows), slice(0, width), False, False)]
    if min(height, width) == 1:
        return whole
    parts = list(config.split or [height]) * (rows // height)
    is_table = config.table is True or (
        config.table == "auto"
        and all(
            max(part, width) > max(config.max_dim, config.table_aspect * min(part, width))
            for part in parts
        )
    )
    if is_table and config.oversize == "diagonal":
        return whole
    starts = itertools.accumulate([0, *parts])
    return [
        area
        for start, part in zip(starts, parts, strict=False)
        for area in cut_matrix(start, part, width, is_table, config)
    ]


def cut_matrix(
    start: int, height: int, width: int, is_table: bool, config: BlockingConfig
) -> list[Area]:
    """The blocks of one matrix whose first row is `start`."""
    m, n = min(height, config.block_size), min(width, config.block_size)
    left = m <= config.max_aspect * n and (not is_table or height < width)
    right = n <= config.max_aspect * m and (not is_table or height >= width)
    longest = config.block_size
    if left and right:
        near_square = max(_NEVER_CUT_BELOW, config.block_aspect * min(m, n))
        longest = math.ceil(min(longest, near_square))
    return [
        (rows, columns, left, right)
        for rows in (
            even_slices(start, height, longest) if left else [slice(start, start + height)]
        )
        for columns in (even_slices(0, width, longest) if right else [slice(0, width)])
    ]


def due_refreshes(
    keys: Sequence[Sequence[Key]], config: ShampooOptions, step: int
) -> list[set[tuple[int, int]]]:
    """Which (block, side) pairs of each parameter are refreshed at a group's step, from 1.

    "together": at multiples of the interval T, and at powers of four below it. "staggered": all at
    powers of four below T, and each at one step in T: with costs d^3 laid on a line of length C,
    block shape by block shape and left sides before right ones, the one that starts at x is due
    when step % T == floor(T x / C).

    Args:
      keys: of the blocks of each parameter.
      config: the group's options.
      step: as above.
    """
    interval = config.refresh_interval
    rows: dict[Key, list[tuple[int, int]]] = {}
    for number, blocks in enumerate(keys):
        for index, key in enumerate(blocks):
            rows.setdefault(key, []).append((number, index))
    units = [
        (number, index, side)
        for key, members in rows.items()
        for side in (LEFT, RIGHT)
        for number, index in members
        if key[2:][side]
    ]
    costs = [keys[number][index][side] ** 3 for number, index, side in units]
    early = step < interval and step == 4 ** round(math.log(step, 4))
    due: list[set[tuple[int, int]]] = [set() for _ in keys]
    for (number, index, side), start in zip(units, itertools.accumulate([0, *costs]), strict=False):
        phase = 0 if config.refresh == "together" else interval * start // sum(costs)
        if early or step % interval == phase:
            due[number].add((index, side))
    return due
