"""Polynomials by which matrix products alone take inverse p-th roots, from bounds of a spectrum.

With P = A X^p for a symmetric A and polynomials h of P, X <- h(P) X and P <- h(P)^p P keep that
relation, and X tends to A^(-1/p) as P tends to I. For an eigenvalue y = x^p of P a step is
x <- x h(x^p). The h of every step but the last is the quadratic for which x h(x^p) is closest to 1
on the interval where x is, by Remez's exchange (Amsel et al. 2025, arXiv:2505.16932, take such
steps to the polar factor; Gawlik 2019, arXiv:1903.06268, rational ones to roots). The last takes no
product to renew P, and has two to spare for a quartic.

Pure Python, in milliseconds, once for a spectrum.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

# Steps are the best above this fraction of the upper end of their interval, and map what is below
# along with it. A larger fraction takes more steps; in a smaller one the largest eigenvalues come
# closer to 0 in between, and the error of products in TF32 grows.
LEAST_CUSHION = 0.35
_BISECTIONS = 4
_LAST_DEGREE = 4
# With eigenvalues of P above this, squares of h are exact enough to save products by.
_SETTLED = 0.01
# By how much an extremum moves at the end of the exchange, relative; the error then has twice as
# many exact digits.
_CONVERGED = 1e-7


class Step(NamedTuple):
    """One step of the iteration, with h(P) = sum_k c_k (P - centre I)^k.

    Attributes:
      coefficients: c_0 and so on: three of them, in the last step five.
      centre: 0, so that rounding h perturbs small eigenvalues by a fraction of themselves; in the
        last step 1, so that it perturbs by a fraction of what is left to do.
      squares: whether h(P)^2 may take the place of two factors h(P).
    """

    coefficients: tuple[float, ...]
    centre: float
    squares: bool


@functools.lru_cache(maxsize=256)
def steps(power: int, lowest: float, tolerance: float) -> tuple[Step, ...]:
    """Steps from X = I and P = A to A^(-1/p), with the fewest products.

    Of as many steps as `LEAST_CUSHION` takes, those with the largest cushion.

    Args:
      power: p, at least 1.
      lowest: the smallest eigenvalue of A, 0 < lowest < 1; the largest is 1.
      tolerance: of the root, relative.

    >>> [len(steps(4, damping, 1e-7)) for damping in (1e-6, 1e-4)]
    [6, 5]
    """
    cushion = LEAST_CUSHION
    best = _steps(power, lowest, tolerance, cushion)
    width = 1 - cushion
    for _ in range(_BISECTIONS):
        width /= 2
        chosen = _steps(power, lowest, tolerance, cushion + width)
        if len(chosen) == len(best):
            cushion, best = cushion + width, chosen
    return best


def products(power: int, chosen: Sequence[Step]) -> int:
    """How many matrix products steps take to a root.

    >>> products(4, steps(4, 1e-6, 1e-7))
    30
    """
    count = 0
    for number, step in enumerate(chosen):
        count += len(step.coefficients) // 2 + (number > 0)
        if number < len(chosen) - 1:
            count += (1 + power // 2 + power % 2) if saves(power, step) else power
    return count


def saves(power: int, step: Step) -> bool:
    """Whether h(P)^p P takes fewer products with h(P)^2, of those that may."""
    return step.squares and power > 3


def apply(power: int, chosen: Sequence[Step], value: float) -> float:
    """What steps make of an eigenvalue: its inverse p-th root, nearly.

    >>> round(apply(4, steps(4, 1e-4, 1e-7), 1e-4), 5)
    10.0
    """
    root, ratio = 1.0, value
    for step in chosen:
        factor = _evaluate(step.coefficients, ratio - step.centre)
        root, ratio = factor * root, factor**power * ratio
    return root


def _steps(power: int, lowest: float, tolerance: float, cushion: float) -> tuple[Step, ...]:
    """Steps with a cushion."""
    low, high = lowest ** (1 / power), 1.0
    chosen: list[Step] = []
    while True:
        last, error = _interpolation(power, low, high)
        if error <= tolerance:
            return (*chosen, Step(last, 1.0, squares=False))
        left = max(low, cushion * high)
        coefficients, error = closest_to_one(power, left, high)
        settled = low**power > _SETTLED
        chosen.append(Step(coefficients, 0.0, settled))
        low = min(low * _evaluate(coefficients, low**power), 1 - error)
        high = 1 + error


def closest_to_one(power: int, low: float, high: float) -> tuple[tuple[float, ...], float]:
    """The h of degree 2 with the smallest maximum of |1 - x h(x^p)| on [low, high], and that.

    There the error has the same size and alternating signs at four points: the ends, and the two
    extrema between them, which are roots of a quadratic in x^p.

    Args:
      power: p.
      low, high: 0 < low < high.

    Returns:
      (c_0, c_1, c_2) and the error.

    At p = 1 the error is one over a Chebyshev polynomial, T_3((high + low) / (high - low)):

    >>> round(1 / closest_to_one(1, 0.5, 1.0)[1])  # T_3(3)
    99
    """
    inner = [(high + low) / 2 + share * (high - low) / 2 for share in (-0.5, 0.5)]
    change = high
    while change > _CONVERGED * high:
        points = [low, *inner, high]
        images = [x**power for x in points]
        # A quadratic h passes through (1 -+ error) / x at all four: a third difference vanishes.
        weights = [
            1 / (x * math.prod(y - other for other in images if other != y))
            for x, y in zip(points, images, strict=True)
        ]
        error = sum(weights) / (weights[0] - weights[1] + weights[2] - weights[3])
        values = [(1 - sign * error) / x for sign, x in zip((1, -1, 1), points, strict=False)]
        coefficients = _through(images[:3], values, 0.0)
        # The derivative of x h(x^p) is a + b y + c y^2.
        a, b, c = ((power * k + 1) * value for k, value in enumerate(coefficients))
        spread = math.sqrt(b * b - 4 * a * c)
        moved = [((-b + sign * spread) / (2 * c)) ** (1 / power) for sign in (-1, 1)]
        change = max(abs(new - old) for new, old in zip(moved, inner, strict=True))
        inner = moved
    return coefficients, abs(error)


def _interpolation(power: int, low: float, high: float) -> tuple[tuple[float, ...], float]:
    """The quartic in y - 1 that is y^(-1/p) at Chebyshev's points, and its error in the root.

    At most a few times that of the best quartic, without an exchange that rounding would disturb
    where the error is no more than rounding.
    """
    count = _LAST_DEGREE + 1
    middle, half = (high**power + low**power) / 2, (high**power - low**power) / 2
    nodes = [middle + half * math.cos(math.pi * (k + 0.5) / count) for k in range(count)]
    coefficients = _through(nodes, [y ** (-1 / power) for y in nodes], 1.0)
    # Between the nodes and at the ends, where the error is near its maxima.
    extrema = (middle + half * math.cos(math.pi * k / count) for k in range(count + 1))
    error = max(abs(1 - y ** (1 / power) * _evaluate(coefficients, y - 1)) for y in extrema)
    return coefficients, error


def _through(points: Sequence[float], values: Sequence[float], centre: float) -> tuple[float, ...]:
    """Coefficients, in powers of y - centre, of the polynomial with the values at the points."""
    differences = list(values)
    count = len(points)
    for order in range(1, count):
        for index in range(count - 1, order - 1, -1):
            rise = differences[index] - differences[index - 1]
            differences[index] = rise / (points[index] - points[index - order])
    result = [0.0] * count
    for point, difference in zip(reversed(points), reversed(differences), strict=True):
        shifted = [0.0, *result[:-1]]
        result = [
            more - (point - centre) * value for value, more in zip(result, shifted, strict=True)
        ]
        result[0] += difference
    return tuple(result)


def _evaluate(coefficients: Sequence[float], value: float) -> float:
    total = 0.0
    for coefficient in reversed(coefficients):
        total = total * value + coefficient
    return total
