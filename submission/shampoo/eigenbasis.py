"""Eigenbases of factors, and moments between two bases."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..plan.solvers import resolve_basis_solver
from .devices import is_host, is_queued, is_true
from .eigh import MAX_NON_ORTHONORMALITY, decompose, non_orthonormality, scale_to_unit
from .products import at_least

# Of elements in one temporary tensor; a larger stack is worked off in parts.
_MAX_ELEMENTS = 2**26
# In units of the root of rounding, since a Gram matrix squares condition numbers. Added before a
# power step to the eigenvalues of A, scaled to unit infinity norm: the null space of A then stays
# what it was instead of becoming rounding noise, and the columns stay independent enough for a
# Cholesky factorisation of their Gram matrix. Without it that failed at 125 of 144 refreshes of
# averages of 1 or 4 columns of gradient, d = 64 and 256; with it at none, d up to 1024.
_SHIFT = 0.1
# In units of d times rounding, about the error of a Gram matrix of d unit columns. Added to it.
_GRAM_SHIFT = 1.0


class Bases(NamedTuple):
    """Eigenbases of a stack of matrices A.

    Attributes:
      vectors: Q, [N, d, d], orthonormal columns; the previous basis where not trusted and for a
        zero matrix.
      values: q_i^T A q_i, [N, d], descending.
      trusted: [N] booleans: whether A is finite and the new Q orthonormal.
      residual: ||offdiag(Q^T A Q)||_F / ||A||_F of the new Q, [N]; 0 for a zero matrix, NaN where
        there is none.
    """

    vectors: Tensor
    values: Tensor
    trusted: Tensor
    residual: Tensor


@at_least("ieee")
def eigenbasis(matrices: Tensor, previous: Tensor, solver: str = "auto") -> Bases:
    """Orthonormal eigenvectors of each matrix, by descending eigenvalue.

    "eigh" is exact. The others take one power step from the previous basis, Q <- orth(A Q) (Vyas et
    al. 2024, arXiv:2409.11321, algorithm 4), cheap where eigendecompositions are slow, with the
    columns first ordered by descending q^T A q: a power step turns each column towards larger
    eigenvalues, and orthonormalisation takes away from it what earlier columns hold, so that with
    the smallest first the step makes the basis worse. A previous basis of I is a poor start.
    "qr" orthonormalises by Householder reflections; "cholesky_qr" by two passes of CholeskyQR on
    columns of unit norm, the first with a shift (Fukaya et al. 2020, arXiv:1809.11085), which takes
    only products, factorisations and triangular solves of whole stacks. Where that fails, a
    Householder QR takes over on a CPU; elsewhere, where the host would have to wait for the flags,
    the matrix is left untrusted. Only "eigh" reads flags on the host there.

    Args:
      matrices: A, [N, d, d], float32 or float64, symmetric positive semi-definite up to rounding.
        Their scale does not matter. One that is not finite spoils no neighbour.
      previous: [N, d, d], the dtype of A, orthonormal columns in any order.
      solver: "eigh", "qr", "cholesky_qr", or "auto": "cholesky_qr" on an accelerator, else
        "eigh", which on a CPU takes as long as a power step with either from d = 256 on, and below
        that less than twice as long.

    Raises:
      ValueError: if there is no such solver.
    """
    solver = resolve_basis_solver(solver, is_queued(matrices.device))
    parts = [
        _eigenbasis(matrices[part], previous[part], solver)
        for part in _parts(len(matrices), matrices[:1].numel())
    ]
    return parts[0] if len(parts) == 1 else Bases(*map(torch.cat, zip(*parts, strict=True)))


def condition(values: Tensor, damping: float) -> Tensor:
    """lambda_max / (lambda_min + damping * lambda_max) of each matrix, [N]; 1 for a zero matrix.

    Args:
      values: eigenvalues, [N, d], descending.
      damping: as a fraction of the largest.
    """
    largest, smallest = values[:, 0], values[:, -1].clamp_min(0)
    return torch.where(largest > 0, largest / (smallest + damping * largest), 1.0)


def rotate_first(moment: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    """An average of gradients in the old bases, expressed in the new: T_L M T_R^T.

    Args:
      moment: M = Q_L^T G Q_R, [N, m, n].
      left: T_L = Q_L_new^T Q_L_old, [N, m, m], or None for the identity.
      right: T_R, [N, n, n], or None.
    """
    return _rotate(moment, left, right, squared=False)


def rotate_second(moment: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    """An average of squares in the old bases, expressed in the new: (T_L o T_L) V (T_R o T_R)^T.

    That is the expectation of the squares in the new bases, if the entries in the old ones are
    uncorrelated. The squares of an orthonormal T are doubly stochastic: the result is non-negative
    and has V's sum; a T that only permutes columns permutes V.

    Args:
      moment: V, [N, m, n], non-negative.
      left: T_L = Q_L_new^T Q_L_old, [N, m, m], or None for the identity.
      right: T_R, [N, n, n], or None.
    """
    return _rotate(moment, left, right, squared=True)


def match_eigenvalues(moment: Tensor, values: Tensor, side: int) -> Tensor:
    """Second moments whose rows or columns sum to a factor's eigenvalues, but for a common scale.

    In whatever basis the columns are, row i of the squares of Q_L^T G sums to q_i^T G G^T q_i.
    Averaged with one EMA weight, V's rows therefore sum to the eigenvalues of the left factor, and
    its columns to those of the right. `rotate_second`, which knows no covariances, levels them.

    Args:
      moment: V, [N, m, n], non-negative.
      values: of the factor, [N, d], non-negative.
      side: 0 for rows and the left factor, 1 for columns and the right.
    """
    sums = moment.sum(dim=2 - side)
    scale = sums.sum(dim=-1, keepdim=True) / values.sum(dim=-1, keepdim=True)
    ratios = torch.where(sums > 0, values * scale / sums, 1.0)
    return moment * ratios.unsqueeze(2 - side)


def _parts(count: int, size: int) -> Iterator[slice]:
    """Ranges of a stack of `count` with at most `_MAX_ELEMENTS` elements, if each has `size`."""
    most = max(1, _MAX_ELEMENTS // max(1, size))
    return (slice(start, start + most) for start in range(0, max(1, count), most))


def _eigenbasis(matrices: Tensor, previous: Tensor, solver: str) -> Bases:
    scaled, bounds = scale_to_unit(matrices)
    norm = torch.linalg.matrix_norm(scaled)
    finite, zero = norm.isfinite(), norm == 0
    if solver == "eigh":
        # Of -A, since eigenvalues come ascending, and turning the columns round takes longer.
        values, vectors, residual = decompose(scaled.neg_())
        values = -values
        orthonormal = residual.isfinite()
    else:
        vectors = _power_step(scaled, previous, solver)
        values, residual = _rayleigh(scaled, vectors)
        values, order = values.sort(dim=-1, descending=True, stable=True)
        vectors = _permuted(vectors, order)
        orthonormal = non_orthonormality(vectors) <= MAX_NON_ORTHONORMALITY[vectors.dtype]
    unchanged = zero | ~(finite & orthonormal)
    may_read = solver == "eigh" or is_host(matrices.device)
    if not may_read or is_true(unchanged.any(), otherwise=True):
        vectors = torch.where(unchanged[:, None, None], previous, vectors)
    return Bases(
        vectors,
        torch.where(finite[:, None], values * bounds.squeeze(-1), torch.nan),
        finite & (zero | orthonormal),
        torch.where(finite, residual, torch.nan),
    )


def _power_step(matrices: Tensor, previous: Tensor, solver: str) -> Tensor:
    """orth((A + shift I) Q), Q being the previous basis by descending q^T A q."""
    rounding = torch.finfo(matrices.dtype).eps
    columns = torch.baddbmm(previous, matrices, previous, beta=_SHIFT * math.sqrt(rounding))
    order = (previous * columns).sum(dim=-2).argsort(dim=-1, descending=True, stable=True)
    columns = _permuted(columns, order)
    if solver == "qr":
        return _householder_qr(columns)
    vectors = _cholesky_qr(columns, _GRAM_SHIFT * columns.shape[-1] * rounding)
    if is_host(matrices.device):
        failed = ~(non_orthonormality(vectors) <= MAX_NON_ORTHONORMALITY[vectors.dtype])
        if failed.any():
            vectors[failed] = _householder_qr(columns[failed])
    return vectors


def _permuted(columns: Tensor, order: Tensor) -> Tensor:
    return columns.gather(-1, order.unsqueeze(-2).expand_as(columns))


def _householder_qr(columns: Tensor) -> Tensor:
    """The Q of QR with a non-negative diagonal of R, which no column leaves by a reflection."""
    vectors, upper = torch.linalg.qr(columns)
    signs = torch.where(upper.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)
    return vectors * signs.to(vectors.dtype).unsqueeze(-2)


def _cholesky_qr(columns: Tensor, shift: float) -> Tensor:
    """The same Q in two passes; NaN where a factorisation fails."""
    norms = torch.linalg.vector_norm(columns, dim=-2, keepdim=True)
    vectors = columns / norms.clamp_min(torch.finfo(columns.dtype).tiny)
    for added in (shift, 0.0):
        gram = torch.bmm(vectors.mT, vectors)
        gram.diagonal(dim1=-2, dim2=-1).add_(added)
        lower, failed = torch.linalg.cholesky_ex(gram)
        vectors = torch.linalg.solve_triangular(lower.mT, vectors, upper=True, left=False)
        vectors = vectors.masked_fill((failed != 0)[:, None, None], torch.nan)
    return vectors


def _rayleigh(matrices: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """q_i^T A q_i [N, d], and the norm of what A Q has beside Q diag(q_i^T A q_i), relative [N]."""
    products = torch.bmm(matrices, vectors)
    values = (vectors * products).sum(dim=-2)
    error = torch.linalg.matrix_norm(products - vectors * values.unsqueeze(-2))
    norm = torch.linalg.matrix_norm(products).clamp_min(torch.finfo(products.dtype).tiny)
    return values, error / norm


def _rotate(moment: Tensor, left: Tensor | None, right: Tensor | None, squared: bool) -> Tensor:
    sizes = [tensor[:1].numel() for tensor in (moment, left, right) if tensor is not None]
    parts = []
    for part in _parts(len(moment), max(sizes)):
        rotated = moment[part]
        if left is not None:
            rotated = torch.bmm(left[part].square() if squared else left[part], rotated)
        if right is not None:
            rotation = right[part].square() if squared else right[part]
            rotated = torch.bmm(rotated, rotation.mT)
        parts.append(rotated)
    return parts[0] if len(parts) == 1 else torch.cat(parts)
