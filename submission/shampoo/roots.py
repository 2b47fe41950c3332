"""Batched inverse roots of symmetric positive semi-definite matrices."""

import torch
from torch import Tensor

# A backward-stable eigendecomposition reconstructs its matrix to rounding; this far off, it failed.
MAX_RESIDUAL = 1e-2


def inverse_root(matrices: Tensor, exponent: float, damping: float) -> tuple[Tensor, Tensor]:
    """A^(-exponent) of each matrix, by eigendecomposition with relative damping.

    Each matrix is scaled by a bound of its largest eigenvalue first, so that neither tiny nor
    huge factors leave the range of the dtype; damping is then a fraction of that scale.
    A zero matrix counts as the identity.

    Args:
      matrices: A, [N, d, d], symmetric up to rounding, positive semi-definite up to rounding.
      exponent: the inverse power, for instance 1/4.
      damping: added to the eigenvalues, as a fraction of the largest.

    Returns:
      The roots [N, d, d], and [N] booleans: whether each can be trusted, that is, is finite and
      its eigendecomposition reproduces A to a relative error of at most `MAX_RESIDUAL`.
    """
    bound = torch.linalg.matrix_norm(matrices, ord=torch.inf, keepdim=True)
    tiny = torch.finfo(matrices.dtype).tiny
    scaled = (matrices / bound.clamp_min(tiny)).add(matrices.mT / bound.clamp_min(tiny)).mul_(0.5)
    values, vectors = _eigh(scaled)
    residual = torch.linalg.matrix_norm((vectors * values.unsqueeze(-2)) @ vectors.mT - scaled)
    largest = values[..., -1:]
    empty = largest <= 0
    damped = torch.where(empty, 1.0, values.clamp_min(0) + damping * largest)
    scale = torch.where(empty, 1.0, bound.squeeze(-1))
    powers = damped.pow(-exponent) * scale.pow(-exponent)
    roots = (vectors * powers.unsqueeze(-2)) @ vectors.mT
    trusted = (residual <= MAX_RESIDUAL) & roots.isfinite().all(dim=-1).all(dim=-1)
    return roots, trusted


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
