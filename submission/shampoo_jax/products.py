"""Inverse p-th roots by matrix products alone, for devices where eigendecompositions are slow.

The iteration of `submission.shampoo.iteration` and its steps, see there, for one matrix.
"""

import functools
import itertools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ..plan import minimax
from ..plan.minimax import Step
from ..plan.solvers import ITERATION_PROBES, POWER_STEPS
from .linalg import frobenius, product, transposed


def largest_eigenvalue(matrix: Array, squarings: int) -> Array:
    """A Rayleigh quotient close to the largest eigenvalue, and never above it, a scalar.

    Args:
      matrix: A, [d, d], symmetric, positive semi-definite up to rounding, not zero.
      squarings: products of whole matrices to be spent.
    """

    def square(_: int, powers: Array) -> Array:
        powers = powers / frobenius(powers)
        return product(powers, powers)

    def multiply(_: int, vector: Array) -> Array:
        vector = product(powers, vector)
        return vector / frobenius(vector)

    powers = lax.fori_loop(0, squarings, square, matrix)
    longest = jnp.square(powers).sum(-2).argmax()
    vector = lax.dynamic_slice_in_dim(powers, longest, 1, axis=1)
    vector = lax.fori_loop(0, POWER_STEPS, multiply, vector)
    quotient: Array = (vector * product(matrix, vector)).sum() / jnp.square(vector).sum()
    return quotient


def inverse_root(matrix: Array, power: int, steps: Sequence[Step]) -> Array:
    """A^(-1/p) by the steps X <- h(P) X and P <- h(P)^p P, from X = I and P = A.

    Args:
      matrix: A, [d, d], symmetric, with eigenvalues within what `steps` were made for.
      power: p.
      steps: of `plan.minimax`, for p.
    """
    identity = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)

    def advance(
        pair: tuple[Array, Array], coefficients: Array, squares: bool
    ) -> tuple[tuple[Array, Array], None]:
        ratio, root = pair
        keep, rest = _factor(ratio, coefficients)
        return (
            _renewed(ratio, power, keep, rest, squares),
            keep * root + product(root, rest),
        ), None

    # Steps alike are a loop, which is compiled once: unrolled, they were most of a program.
    pair = matrix, identity
    for squares, alike in itertools.groupby(steps[:-1], functools.partial(minimax.saves, power)):
        rows = jnp.asarray([step.coefficients for step in alike], matrix.dtype)
        pair, _ = lax.scan(functools.partial(advance, squares=squares), pair, rows)
    ratio, root = pair
    keep, rest = _factor(ratio - steps[-1].centre * identity, steps[-1].coefficients)
    return _symmetric_part(keep * root + product(root, rest))


def _factor(variable: Array, coefficients: Array | Sequence[float]) -> tuple[Array | float, Array]:
    """h as a multiple of the identity and the rest, R = h - c_0 I."""
    first, linear, quadratic, *higher = coefficients
    square = product(variable, variable)
    rest = linear * variable + quadratic * square
    if higher:
        rest = rest + product(square, higher[0] * variable + higher[1] * square)
    return first, rest


def _renewed(ratio: Array, power: int, keep: Array | float, rest: Array, squares: bool) -> Array:
    """h^p P, for h = keep I + rest."""
    factors = [(keep, rest)] * power
    if squares:
        square = 2 * keep * rest + product(rest, rest)
        factors = [(keep**2, square)] * (power // 2) + [(keep, rest)] * (power % 2)
    for number, (scale, factor) in enumerate(factors):
        left, right = (factor, ratio) if number % 2 == 0 else (ratio, factor)
        ratio = scale * ratio + product(left, right)
    return _symmetric_part(ratio)


def residual(matrix: Array, root: Array, power: int) -> Array:
    """An estimate of ||X^(p/2) A X^(p/2) - I||_F / sqrt(d): how far X is from A^(-1/p).

    In the dtype of the matrices. At a condition of 1e6 rounding in float32 shows in it, but stays
    below what a root is trusted up to.

    Args:
      matrix: A, [d, d].
      root: X, [d, d].
      power: p.
    """
    generator = np.random.default_rng(0)
    probes = generator.standard_normal((matrix.shape[-1], ITERATION_PROBES))
    image = start = jnp.asarray(probes, matrix.dtype)
    for factor in [root] * (power // 2) + [matrix] + [root] * (power - power // 2):
        image = product(factor, image)
    return frobenius(image - start) / frobenius(start)


def _symmetric_part(matrix: Array) -> Array:
    return (matrix + transposed(matrix)) / 2
