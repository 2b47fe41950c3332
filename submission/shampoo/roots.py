"""Batched inverse roots of symmetric positive semi-definite matrices."""

import torch
from torch import Tensor

# A backward-stable eigendecomposition reconstructs its matrix to rounding; this far off it failed.
MAX_RESIDUAL = 1e-2


def inverse_root(
    matrices: Tensor, exponent: float, damping: float
) -> tuple[Tensor, Tensor, Tensor]:
    """A^(-exponent) of each matrix, by eigendecomposition with relative damping.

    Each matrix is divided by its infinity norm, a bound of its largest eigenvalue, so that neither
    tiny nor huge factors leave the range of the dtype; damping is a fraction of the largest
    eigenvalue. A zero matrix counts as the identity.

    Args:
      matrices: A, [N, d, d], symmetric up to rounding, positive semi-definite up to rounding.
      exponent: the inverse power, for instance 1/4.
      damping: added to the eigenvalues, as a fraction of the largest.

    Returns:
      roots [N, d, d] and scales [N, 1, 1], such that A^(-exponent) is scales^(-exponent) * roots;
      and [N] booleans: whether each root can be trusted, that is, is finite and its
      eigendecomposition reproduces the scaled A to `MAX_RESIDUAL` in the Frobenius norm.
    """
    bound = torch.linalg.matrix_norm(matrices, ord=torch.inf, keepdim=True)
    bound = bound.clamp_min(torch.finfo(matrices.dtype).tiny)
    scaled = matrices / bound
    scaled = (scaled + scaled.mT).mul_(0.5)
    values, vectors = _eigh(scaled)
    error = (vectors * values.unsqueeze(-2)) @ vectors.mT - scaled
    norm = torch.linalg.matrix_norm(scaled)
    largest = values[..., -1:]
    empty = largest <= 0
    powers = torch.where(empty, 1.0, values.clamp_min(0) + damping * largest).pow(-exponent)
    roots = (vectors * powers.unsqueeze(-2)) @ vectors.mT
    trusted = torch.linalg.matrix_norm(error) <= MAX_RESIDUAL * norm
    trusted &= roots.isfinite().all(dim=-1).all(dim=-1)
    return roots, torch.where(empty.unsqueeze(-1), 1.0, bound), trusted


def _eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """`torch.linalg.eigh` that answers NaN instead of raising where LAPACK does not converge."""
    try:
        values, vectors = torch.linalg.eigh(matrices)
    except torch.linalg.LinAlgError:
        results = [_eigh_one(matrix) for matrix in matrices]
        values = torch.stack([result[0] for result in results])
        vectors = torch.stack([result[1] for result in results])
    return values, vectors


def _eigh_one(matrix: Tensor) -> tuple[Tensor, Tensor]:
    try:
        values, vectors = torch.linalg.eigh(matrix.double())
    except torch.linalg.LinAlgError:
        values = matrix.new_full(matrix.shape[-1:], torch.nan)
        vectors = torch.full_like(matrix, torch.nan)
    return values.to(matrix.dtype), vectors.to(matrix.dtype)
