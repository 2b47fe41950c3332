"""Inverse roots of one symmetric matrix, and their checks; all of it traceable, nothing raises."""

import functools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ..plan.trust import MAX_NON_ORTHONORMALITY, MAX_RESIDUAL, PROBES


def product(left: Array, right: Array) -> Array:
    """Left @ right, in full precision where the default is TF32 or bfloat16."""
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)


def transposed(matrices: Array) -> Array:
    """The last two dimensions exchanged."""
    return jnp.swapaxes(matrices, -1, -2)


@functools.lru_cache(maxsize=64)
def _signs(size: int) -> np.ndarray:
    """Signs [PROBES, size] of a quadratic phase: as good as random, and alike on all devices."""
    index = np.arange(1, size * PROBES + 1, dtype=np.float64)
    return np.sign(np.cos(index**2 * (math.pi * (math.sqrt(5) - 1)))).reshape(PROBES, size)


def scale_to_unit(matrix: Array) -> tuple[Array, Array]:
    """A / bound and the bound, A's infinity norm, so that products stay in the dtype's range."""
    limits = jnp.finfo(matrix.dtype)
    bound = jnp.clip(jnp.abs(matrix).sum(-1).max(), limits.tiny, limits.max)
    return matrix / bound, bound


class Decomposition(NamedTuple):
    """A = V diag(w) V^T.

    Attributes:
      values: w, [d], ascending.
      vectors: V, [d, d], orthonormal columns in that order.
      sound: a boolean scalar: whether V is orthonormal and reproduces A, see `MAX_RESIDUAL`.
    """

    values: Array
    vectors: Array
    sound: Array


def decompose(matrix: Array) -> Decomposition:
    """The eigendecomposition of A [d, d], symmetric up to rounding, checked on a few vectors."""
    vectors, values = lax.linalg.eigh(matrix, symmetrize_input=False)
    probes = jnp.asarray(_signs(matrix.shape[-1]), matrix.dtype)
    turned = product(probes, vectors)
    error = product(turned * values, transposed(vectors)) - product(probes, matrix)
    norm = jnp.maximum(frobenius(matrix), jnp.finfo(matrix.dtype).tiny)
    residual = frobenius(error) / (norm * math.sqrt(PROBES))
    skew = product(product(probes, transposed(vectors)), vectors) - probes
    limit = MAX_NON_ORTHONORMALITY[jnp.finfo(matrix.dtype).bits]
    # Comparisons with NaN are false.
    sound = (residual <= MAX_RESIDUAL) & (jnp.abs(skew).max() <= limit)
    return Decomposition(values, vectors, sound)


def frobenius(matrices: Array) -> Array:
    """The Frobenius norm over the last two dimensions."""
    return jnp.sqrt(jnp.square(matrices).sum((-2, -1)))


def inverse_root(matrix: Array, exponent: float, damping: Array | float) -> tuple[Array, Array]:
    """(A + damping * lmax(A) * I)^(-exponent) of a matrix [d, d], and whether it can be trusted.

    A matrix without a positive eigenvalue counts as the identity.

    Args:
      matrix: A, symmetric and positive semi-definite up to rounding, of any scale.
      exponent: the inverse power.
      damping: added to the eigenvalues, as a fraction of the largest.

    >>> root, trusted = inverse_root(4 * jnp.eye(2), 0.5, 0.0)
    >>> root.tolist(), bool(trusted)
    ([[0.5, 0.0], [0.0, 0.5]], True)
    """
    scaled, bound = scale_to_unit(matrix)
    values, vectors, sound = decompose(scaled)
    largest = values[-1]
    empty = largest <= 0
    damped = jnp.where(empty, 1.0, jnp.maximum(values, 0) + damping * largest)
    root = product(vectors * damped**-exponent, transposed(vectors))
    root = (root + transposed(root)) / 2 * bound**-exponent
    root = jnp.where(empty, jnp.eye(matrix.shape[-1], dtype=matrix.dtype), root)
    return root, sound & jnp.isfinite(root).all()
