"""Who owns which blocks: shares of equal cost, and few pieces.

The owner of a block holds its state and computes its update (ZeRO-1, Rajbhandari et al. 2020,
arXiv:1910.02054; for Shampoo: Shi et al. 2023, arXiv:2309.06497, section 4). Shapes alone decide,
so that all ranks come to the same result without communication.
"""

import dataclasses
import heapq
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from . import blocking
from .blocking import ParameterPlan, Part

# In floating-point operations of a large matrix product, as the times of
# results/numerics/roots.md and results/step_cost/cpu.md come to: an eigendecomposition or a root by
# products of a d x d matrix takes _ROOT * d^3; a step has two products for the factors, half of
# each being symmetric, and two for the direction; and moments move through memory.
_ROOT = 26.0
_PRODUCTS = 6.0
_ELEMENT = 100.0

# A part without factors is cut into strips only if it has more elements than this and than an
# eighth of a rank's share: more strips would balance no better.
_WORTH_CUTTING = 2**16


def block_cost(height: int, width: int, sides: tuple[bool, bool], refresh_interval: int) -> float:
    """Cost of a block [m, n] per step, in operations of a matrix product.

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
    plans: Sequence[tuple[int, ParameterPlan]], ranks: int, refresh_interval: int = 10
) -> list[list[Part]]:
    """Gives every block of the planned parameters to one of the ranks.

    The largest blocks go first, each to the rank that then has the least to do (Graham 1969): to
    compute or to send, whichever is the larger fraction of the total.

    Args:
      plans: (index, plan) of each parameter.
      ranks: number of ranks.
      refresh_interval: steps between refreshes, for the cost.

    Returns:
      The parts of each rank, in the order of the parameters.

    >>> plan = blocking.plan_parameter((4, 4), blocking.BlockingConfig(block_size=2))
    >>> [[part.start for part in parts] for parts in assign([(0, plan)], 3)]
    [[0, 3], [1], [2]]
    """
    if ranks == 1:
        return [[part for planned in plans for part in blocking.parts_of(*planned)]]
    parts = list(_pieces(plans, ranks))
    counts = [part.grid.blocks if any(part.grid.sides) else 1 for part in parts]
    # A part without factors is assigned as one unit: its blocks are single numbers.
    scale = [part.grid.blocks // count for part, count in zip(parts, counts, strict=True)]
    sizes = [
        float(part.grid.height * part.grid.width * k) for part, k in zip(parts, scale, strict=True)
    ]
    costs = [
        block_cost(part.grid.height, part.grid.width, part.grid.sides, refresh_interval) * k
        for part, k in zip(parts, scale, strict=True)
    ]
    weights = list(zip(_fractions(costs, counts), _fractions(sizes, counts), strict=True))
    loads = [(0.0, 0.0)] * ranks
    shares: list[Counter[int]] = [Counter() for _ in parts]
    for number in sorted(range(len(parts)), key=lambda number: -max(weights[number])):
        compute, send = weights[number]
        queue = [(max(c + compute, s + send), rank) for rank, (c, s) in enumerate(loads)]
        heapq.heapify(queue)
        for _ in range(counts[number]):
            rank = queue[0][1]
            c, s = loads[rank] = loads[rank][0] + compute, loads[rank][1] + send
            heapq.heapreplace(queue, (max(c + compute, s + send), rank))
            shares[number][rank] += scale[number]
    return _as_parts(parts, shares, ranks)


def _fractions(values: Sequence[float], counts: Sequence[int]) -> list[float]:
    """Each unit's fraction of the total, `counts[i]` units having `values[i]`."""
    total = math.fsum(value * count for value, count in zip(values, counts, strict=True))
    return [value / total for value in values]


def _pieces(plans: Sequence[tuple[int, ParameterPlan]], ranks: int) -> Iterable[Part]:
    """All parts; long ones without factors are cut into strips, at most one for every rank."""
    total = sum(math.prod(plan.matrix_shape) for _, plan in plans)
    longest = max(_WORTH_CUTTING, total // (8 * ranks))
    for part in (part for planned in plans for part in blocking.parts_of(*planned)):
        grid = part.grid
        if any(grid.sides) or grid.elements <= longest:
            yield part
            continue
        strips = min(ranks, -(-grid.elements // longest))
        row = 0
        for count, size in blocking.cut(grid.height, -(-grid.height // strips)):
            for _ in range(count):
                strip = dataclasses.replace(grid, row=row, height=size)
                yield dataclasses.replace(part, grid=strip)
                row += size


def _as_parts(
    parts: Sequence[Part], shares: Sequence[Counter[int]], ranks: int
) -> list[list[Part]]:
    """Deals out each part's blocks alternately, so that the refreshes of each rank are spread."""
    owned: list[list[Part]] = [[] for _ in range(ranks)]
    for part, share in zip(parts, shares, strict=True):
        counts = share if any(part.grid.sides) else Counter(share.keys())
        order = sorted(
            ((number + 0.5) / count, rank)
            for rank, count in counts.items()
            for number in range(count)
        )
        start = 0
        for rank, run in itertools.groupby(rank for _, rank in order):
            count = len(list(run)) if counts is share else share[rank]
            owned[rank].extend(_rectangles(part, start, start + count))
            start += count
    return owned


def _rectangles(part: Part, start: int, stop: int) -> Iterable[Part]:
    """Blocks [start, stop) of a grid as rectangles: a row's end, complete rows, a row's start."""
    grid = part.grid
    while start < stop:
        row, column = divmod(start, grid.columns)
        if column == 0 and stop - start >= grid.columns:
            rows, columns = (stop - start) // grid.columns, grid.columns
        else:
            rows, columns = 1, min(stop - start, grid.columns - column)
        region = dataclasses.replace(
            grid,
            row=grid.row + row * grid.height,
            column=grid.column + column * grid.width,
            rows=rows,
            columns=columns,
        )
        yield dataclasses.replace(part, start=part.start + start, grid=region)
        start += rows * columns
