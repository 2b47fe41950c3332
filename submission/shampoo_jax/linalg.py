"""Products and decompositions of matrices, and their checks; all traceable, nothing raises."""

import functools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ..plan.solvers import MAX_NON_ORTHONORMALITY, MAX_RESIDUAL, PROBES


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


def damped(values: Array, damping: Array | float) -> Array:
    """Eigenvalues [..., d] plus a fraction of the largest, and above zero."""
    tiny = jnp.finfo(values.dtype).tiny
    return jnp.maximum(values + damping * values.max(-1, keepdims=True), tiny)


# From here on halving a symmetric product pays on a CPU.
_HALVED_FROM = 256


def gram(matrices: Array, side: int) -> Array:
    """X X^T for side 0 and X^T X for side 1, of matrices X [K, m, n].

    Without most of the upper half's work, which mirrors the lower's.
    """
    axis, summed = (1, 2) if side == 0 else (2, 1)

    def between(left: Array, right: Array) -> Array:
        dimensions = ((summed,), (summed,)), ((0,), (0,))
        return lax.dot_general(left, right, dimensions, precision=lax.Precision.HIGHEST)

    size = matrices.shape[axis]
    if size < _HALVED_FROM:
        return between(matrices, matrices)
    first, second = jnp.split(matrices, [(size + 1) // 2], axis)
    corner = between(second, first)
    rows = [gram(first, side), transposed(corner)], [corner, gram(second, side)]
    return jnp.concatenate([jnp.concatenate(row, axis=-1) for row in rows], axis=-2)


def transposed(matrices: Array) -> Array:
    """The last two dimensions exchanged."""
    return jnp.swapaxes(matrices, -1, -2)


@functools.lru_cache(maxsize=64)
def _signs(size: int) -> np.ndarray:
    """Signs [PROBES, size] of a quadratic phase: as good as random, and alike on all devices."""
    index = np.arange(1, size * PROBES + 1, dtype=np.float64)
    return np.sign(np.cos(index**2 * (math.pi * (math.sqrt(5) - 1)))).reshape(PROBES, size)


def sign_probes(matrix: Array) -> Array:
    """`PROBES` rows of signs for a matrix [d, d], in its dtype."""
    return jnp.asarray(_signs(matrix.shape[-1]), matrix.dtype)


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
    probes = sign_probes(matrix)
    rotated = product(probes, vectors)
    error = product(rotated * values[None], transposed(vectors)) - product(probes, matrix)
    norm = jnp.maximum(frobenius(matrix), jnp.finfo(matrix.dtype).tiny)
    residual = frobenius(error) / (norm * math.sqrt(PROBES))
    # Comparisons with NaN are false.
    sound = (residual <= MAX_RESIDUAL) & is_orthonormal(vectors)
    return Decomposition(values, vectors, sound)


def is_orthonormal(vectors: Array) -> Array:
    """Whether the columns of V [d, d] are, measured on a few vectors."""
    probes = sign_probes(vectors)
    skew = product(product(probes, transposed(vectors)), vectors) - probes
    return jnp.abs(skew).max() <= MAX_NON_ORTHONORMALITY[jnp.finfo(vectors.dtype).bits]


def frobenius(matrices: Array) -> Array:
    """The Frobenius norm over the last two dimensions."""
    return jnp.sqrt(jnp.square(matrices).sum((-2, -1)))
