"""Inverse roots of one symmetric matrix, and their checks; all traceable, nothing raises."""

import functools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ..plan.trust import MAX_NON_ORTHONORMALITY, MAX_RESIDUAL, PROBES


def product(left: Array, right: Array) -> Array:
    """Left @ right, in full precision where the default is TF32 or bfloat16.

    Where one is in bfloat16 the other is rounded to it; sums and the result are in the longer one.
    """
    longer = jnp.promote_types(left.dtype, right.dtype)
    if left.dtype != right.dtype:
        shorter = left.dtype if right.dtype == longer else right.dtype
        left, right = left.astype(shorter), right.astype(shorter)
    precision = lax.Precision.HIGHEST
    return jnp.matmul(left, right, precision=precision, preferred_element_type=longer)


# From here on halving a symmetric product pays on a CPU.
_HALVED_FROM = 256


def gram(vectors: Array) -> Array:
    """X X^T for X [K, d, k], without most of the upper half's work, which mirrors the lower's."""
    size = vectors.shape[-2]
    if size < _HALVED_FROM:
        return product(vectors, transposed(vectors))
    half = (size + 1) // 2
    upper, lower = vectors[..., :half, :], vectors[..., half:, :]
    corner = product(lower, transposed(upper))
    rows = [gram(upper), transposed(corner)], [corner, gram(lower)]
    return jnp.concatenate([jnp.concatenate(row, axis=-1) for row in rows], axis=-2)


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
    # Comparisons with NaN are false.
    sound = (residual <= MAX_RESIDUAL) & is_orthonormal(vectors)
    return Decomposition(values, vectors, sound)


def is_orthonormal(vectors: Array) -> Array:
    """Whether the columns of V [d, d] are, measured on a few vectors."""
    probes = jnp.asarray(_signs(vectors.shape[-1]), vectors.dtype)
    skew = product(product(probes, transposed(vectors)), vectors) - probes
    return jnp.abs(skew).max() <= MAX_NON_ORTHONORMALITY[jnp.finfo(vectors.dtype).bits]


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


def drift(factor: Array, root: Array, exponent: float, damping: Array | float) -> Array:
    """|X^p A z - z| / |z| over fixed probes z, up to a factor, with X the root and p = 1/e.

    A is damped as it was for the root: in its null space X^p A would be 0.

    Args:
      factor: A, [d, d], of any scale.
      root: X, [d, d], of what A was.
      exponent, damping: of the root; p is an integer.
    """
    tiny = jnp.finfo(factor.dtype).tiny
    probes = jnp.asarray(_signs(factor.shape[-1]), factor.dtype)
    image = product(probes, factor)
    image = image + damping * _largest_eigenvalue(factor, image) * probes
    for _ in range(round(1 / exponent)):
        image = product(image, root)
        image = image / jnp.maximum(frobenius(image), tiny)
    scale = (image * probes).sum() / jnp.maximum(jnp.square(image).sum(), tiny)
    return frobenius(image * scale - probes) / frobenius(probes)


def _largest_eigenvalue(matrix: Array, rows: Array) -> Array:
    """Of a matrix [d, d], to a few per cent, by power iteration from rows [k, d]."""
    tiny = jnp.finfo(rows.dtype).tiny

    def lengths(rows: Array) -> Array:
        return jnp.sqrt(jnp.square(rows).sum(-1, keepdims=True))

    def multiply(_: int, rows: Array) -> Array:
        return product(rows / jnp.maximum(lengths(rows), tiny), matrix)

    return lengths(lax.fori_loop(0, 8, multiply, rows)).max()
