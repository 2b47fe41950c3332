"""Inverse roots of one symmetric matrix, and how far they are from a factor; all traceable."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..plan.solvers import MAX_ITERATION_RESIDUAL, SQUARINGS, iteration
from . import products
from .linalg import damped, decompose, product, scale_to_unit, transposed


def inverse_root(
    matrix: Array, exponent: float, damping: Array | float, solver: str = "eigh"
) -> tuple[Array, Array]:
    """(A + damping * lmax(A) * I)^(-exponent) of a matrix [d, d], and whether it can be trusted.

    A root by products that cannot be trusted is taken again by eigh.

    Args:
      matrix: A, symmetric and positive semi-definite up to rounding, of any scale. A zero matrix,
        and with "eigh" one without a positive eigenvalue, counts as the identity.
      exponent: the inverse power.
      damping: added to the eigenvalues, as a fraction of the largest; with "products" no array.
      solver: "eigh"; or "products" alone, for exponents 1/p with an integer p.

    >>> for solver in ("eigh", "products"):
    ...     root, trusted = inverse_root(4 * jnp.eye(2), 0.5, 0.0, solver)
    ...     print(root.round(6).tolist(), bool(trusted))
    [[0.5, 0.0], [0.0, 0.5]] True
    [[0.5, 0.0], [0.0, 0.5]] True
    """
    if solver == "eigh":
        return _by_eigh(matrix, exponent, damping)
    assert not isinstance(damping, jax.Array)
    root, trusted = by_products(matrix, exponent, damping)

    def again() -> tuple[Array, Array]:
        return _by_eigh(matrix, exponent, damping)

    result: tuple[Array, Array] = lax.cond(trusted, lambda: (root, trusted), again)
    return result


def _by_eigh(matrix: Array, exponent: float, damping: Array | float) -> tuple[Array, Array]:
    scaled, bound = scale_to_unit(matrix)
    values, vectors, sound = decompose(scaled)
    empty = values[-1] <= 0
    values = jnp.where(empty, 1.0, damped(jnp.maximum(values, 0), damping))
    root = product(vectors * values[None] ** -exponent, transposed(vectors))
    root = (root + transposed(root)) / 2 * bound**-exponent
    root = jnp.where(empty, jnp.eye(matrix.shape[-1], dtype=matrix.dtype), root)
    return root, sound & jnp.isfinite(root).all()


def by_products(matrix: Array, exponent: float, damping: float) -> tuple[Array, Array]:
    """What `inverse_root` finds by products, repeating nothing."""
    power, dimension, bits = round(1 / exponent), matrix.shape[-1], jnp.finfo(matrix.dtype).bits
    identity = jnp.eye(dimension, dtype=matrix.dtype)
    scaled, bound = scale_to_unit(matrix)
    empty = ~(scaled != 0).any()
    largest = products.largest_eigenvalue(scaled, SQUARINGS[bits])
    shifted = scaled / jnp.where(empty, 1.0, largest) + damping * identity
    highest, steps = iteration(power, damping, dimension, bits)
    root = products.inverse_root(shifted / highest, power, steps) * highest**-exponent
    residual = products.residual(shifted, root, power)
    # Factor by factor, since their product may leave the range of the dtype.
    root = jnp.where(empty, identity, root * largest**-exponent * bound**-exponent)
    # Comparisons with NaN are false.
    trusted = empty | (residual <= MAX_ITERATION_RESIDUAL)
    return root, trusted & jnp.isfinite(root).all()
