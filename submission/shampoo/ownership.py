"""Who owns which blocks: shares of equal cost, and few pieces.

The owner of a block holds its state and computes its update (ZeRO-1, Rajbhandari et al. 2020,
arXiv:1910.02054; for Shampoo: Shi et al. 2023, arXiv:2309.06497, section 4). Shapes alone decide,
so that all ranks come to the same result without a word, and the same code plans on the meta
device.
"""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from . import blocking
from .blocking import Part, Plan, Tile

# In floating-point operations of a large matrix product, as the times of
# results/numerics/roots.md and results/step_cost/cpu.md come to: an eigendecomposition or a root by
# products of a d x d matrix takes _ROOT * d^3; a step has two products for the factors, half of
# each being symmetric, and two for the direction; and moments move through memory.
_ROOT = 26.0
_PRODUCTS = 6.0
_ELEMENT = 100.0

# What no factor ties together is cut into strips only where it is longer than this, and than an
# eighth of a rank's share: more strips would balance no better.
_WORTH_CUTTING = 2**16


def block_cost(height: int, width: int, sides: tuple[bool, bool], refresh_interval: int) -> float:
    """What a block [m, n] costs per step, in operations of a matrix product.

    The refresh's share is that of a whole interval spread over its steps.

    >>> block_cost(1024, 1024, (True, True), 10) > 100 * block_cost(1024, 1024, (False, False), 10)
    True
    """
    cost = _ELEMENT * height * width
    for has_factor, size in zip(sides, (height, width), strict=True):
        if has_factor:
            cost += _ROOT * size**3 / refresh_interval + _PRODUCTS * height * width * size
    return cost


def assign(
    plans: Sequence[tuple[int, Plan]], ranks: int, refresh_interval: int = 10
) -> list[list[Part]]:
    """Gives every block of the planned parameters to one of the ranks.

    The largest blocks go first, each to the rank that then has the least to do (Graham 1969), to
    compute or to send, whichever is the larger part of all there is.

    Args:
      plans: (index, plan) of each parameter.
      ranks: how many there are.
      refresh_interval: steps between refreshes, for the cost.

    Returns:
      The parts of each rank, in the order of the parameters.

    >>> plan = blocking.plan((4, 4), blocking.BlockingConfig(block_size=2))
    >>> [sum(part.tile.blocks for part in parts) for parts in assign([(0, plan)], 3)]
    [2, 1, 1]
    """
    if ranks == 1:
        return [[part for each in plans for part in blocking.whole(*each)]]
    tiles = list(_pieces(plans, ranks))
    sizes = [part.tile.height * part.tile.width for part in tiles]
    costs = [
        block_cost(part.tile.height, part.tile.width, part.tile.sides, refresh_interval)
        for part in tiles
    ]
    counts = [part.tile.blocks if any(part.tile.sides) else 1 for part in tiles]
    # What has no factors goes by the whole part: its blocks are single numbers.
    scale = [part.tile.blocks // count for part, count in zip(tiles, counts, strict=True)]
    weights = np.array([costs, sizes], dtype=np.float64) * scale
    weights /= (weights * counts).sum(1, keepdims=True)
    loads = np.zeros((2, ranks))
    shares: list[Counter[int]] = [Counter() for _ in tiles]
    for number in sorted(range(len(tiles)), key=lambda number: -weights[:, number].max()):
        for _ in range(counts[number]):
            rank = int(np.argmin((loads + weights[:, number, None]).max(0)))
            loads[:, rank] += weights[:, number]
            shares[number][rank] += scale[number]
    return _as_parts(tiles, shares, ranks)


def _elements(tile: Tile) -> int:
    return tile.blocks * tile.height * tile.width


def _pieces(plans: Sequence[tuple[int, Plan]], ranks: int) -> Iterable[Part]:
    """All tiles, long ones without factors cut into strips, at most one for every rank."""
    total = sum(math.prod(plan.matrix) for _, plan in plans)
    longest = max(_WORTH_CUTTING, total // (8 * ranks))
    for part in (part for each in plans for part in blocking.whole(*each)):
        tile = part.tile
        if any(tile.sides) or _elements(tile) <= longest:
            yield part
            continue
        strips = min(ranks, -(-_elements(tile) // longest))
        if tile.height == tile.width == 1:
            start = 0
            for count, size in blocking.cut(tile.columns, -(-tile.columns // strips)):
                for _ in range(count):
                    strip = dataclasses.replace(tile, column=start, columns=size)
                    yield dataclasses.replace(part, start=start, tile=strip)
                    start += size
        else:
            row = 0
            for count, size in blocking.cut(tile.height, -(-tile.height // strips)):
                for _ in range(count):
                    strip = dataclasses.replace(tile, row=row, height=size)
                    yield dataclasses.replace(part, tile=strip)
                    row += size


def _as_parts(
    tiles: Sequence[Part], shares: Sequence[Counter[int]], ranks: int
) -> list[list[Part]]:
    """Hands out each tile's blocks in turn, so that each rank's refreshes are spread as all are."""
    owned: list[list[Part]] = [[] for _ in range(ranks)]
    for whole, share in zip(tiles, shares, strict=True):
        counts = share if any(whole.tile.sides) else Counter(share.keys())
        turns = sorted(
            ((number + 0.5) / count, rank)
            for rank, count in counts.items()
            for number in range(count)
        )
        start = 0
        for rank, run in itertools.groupby(rank for _, rank in turns):
            count = len(list(run)) if counts is share else share[rank]
            owned[rank].extend(_runs(whole, start, start + count))
            start += count
    return owned


def _runs(whole: Part, start: int, stop: int) -> Iterable[Part]:
    """Blocks [start, stop) of a tile as rectangles: the end of a row, whole rows, a beginning."""
    tile = whole.tile
    while start < stop:
        row, column = divmod(start, tile.columns)
        if column == 0 and stop - start >= tile.columns:
            rows, columns = (stop - start) // tile.columns, tile.columns
        else:
            rows, columns = 1, min(stop - start, tile.columns - column)
        region = dataclasses.replace(
            tile,
            row=tile.row + row * tile.height,
            column=tile.column + column * tile.width,
            rows=rows,
            columns=columns,
        )
        yield dataclasses.replace(whole, start=whole.start + start, tile=region)
        start += rows * columns
