"""Eigenbases by one power step from the previous one, cheap where eigendecompositions are slow.

(Vyas et al. 2024, arXiv:2409.11321, algorithm 4.)
"""

import math

import jax.numpy as jnp
from jax import Array, lax

from .linalg import is_orthonormal, product, transposed

# Those of the PyTorch version, see its `eigenbasis`: relative to the root of rounding, added to the
# eigenvalues for the null space to stay what it was; and to d times rounding, added to a Gram
# matrix.
_SHIFT = 0.1
_GRAM_SHIFT = 1.0


def power_step(matrix: Array, previous: Array, solver: str) -> tuple[Array, Array]:
    """Q <- orth((A + shift I) Q), and q_i^T A q_i, [d]; both by descending values.

    Columns are first ordered by descending q^T A q, since orthonormalisation takes away from a
    column what earlier ones hold. Not orthonormal, or NaN, if all fails.

    Args:
      matrix: A, [d, d], symmetric positive semi-definite up to rounding, of unit infinity norm.
      previous: Q, [d, d], orthonormal columns in any order.
      solver: "qr", by Householder reflections; "cholesky_qr", two passes of CholeskyQR on columns
        of unit norm, the first with a shift (Fukaya et al. 2020, arXiv:1809.11085), and
        reflections where that fails.
    """
    rounding = float(jnp.finfo(matrix.dtype).eps)
    columns = product(matrix, previous) + _SHIFT * math.sqrt(rounding) * previous
    columns = _sorted(columns, (previous * columns).sum(0))[0]
    if solver == "qr":
        vectors = _householder(columns)
    else:
        vectors = _cholesky(columns, _GRAM_SHIFT * len(matrix) * rounding)
        works = is_orthonormal(vectors)
        vectors = lax.cond(works, lambda: vectors, lambda: _householder(columns))
    return _sorted(vectors, rayleigh(matrix, vectors))


def _sorted(columns: Array, values: Array) -> tuple[Array, Array]:
    """Both by descending values."""
    order = jnp.argsort(values, stable=True, descending=True)
    return columns[:, order], values[order]


def _householder(columns: Array) -> Array:
    """The Q of QR with a non-negative diagonal of R, which no column leaves by a reflection."""
    vectors, upper = jnp.linalg.qr(columns)
    signs = jnp.where(jnp.diagonal(upper) < 0, -1.0, 1.0).astype(columns.dtype)
    return vectors * signs[None]


def _cholesky(columns: Array, shift: float) -> Array:
    """The same Q in two passes; NaN where a factorisation fails."""
    norms = jnp.sqrt(jnp.square(columns).sum(0, keepdims=True))
    vectors = columns / jnp.maximum(norms, jnp.finfo(columns.dtype).tiny)
    for added in (shift, 0.0):
        gram = product(transposed(vectors), vectors)
        gram = gram + added * jnp.eye(len(gram), dtype=gram.dtype)
        lower = lax.linalg.cholesky(gram, symmetrize_input=False)
        vectors = lax.linalg.triangular_solve(lower, vectors, lower=True, transpose_a=True)
    return vectors


def rayleigh(matrix: Array, vectors: Array) -> Array:
    """q_i^T A q_i, [d]."""
    return (vectors * product(matrix, vectors)).sum(0)
