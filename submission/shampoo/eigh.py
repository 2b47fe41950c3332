"""Batched symmetric eigendecomposition that answers instead of raising, and checks its answer."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .numerics import PROBES, sign_probes, tiny

# Relative. A backward-stable solver errs by the rounding of the dtype; this far off, it failed.
MAX_RESIDUAL = 1e-2
# Of V^T V - I, entrywise. Solvers in full precision err by 1e-6 in float32 and 1e-14 in float64;
# products in TF32, where a user allows them, by up to 5e-3.
MAX_NON_ORTHONORMALITY = {torch.float32: 1e-2, torch.float64: 1e-10}


class Eigendecomposition(NamedTuple):
    """A = V diag(w) V^T for each matrix A of a stack; NaN where no solver succeeded.

    Attributes:
      values: w, [N, d], ascending.
      vectors: V, [N, d, d], orthonormal columns in the order of the values.
      residual: an estimate of ||V diag(w) V^T - A||_F / ||A||_F, [N], 0 for a zero matrix.
    """

    values: Tensor
    vectors: Tensor
    residual: Tensor


def scale_to_unit(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices divided by their infinity norms.

    The infinity norm bounds the largest eigenvalue, so neither tiny nor huge matrices leave the
    range of the dtype when they are multiplied with themselves.

    Args:
      matrices: [N, d, d], floating point.

    Returns:
      scaled [N, d, d] and bounds [N, 1, 1] > 0, such that A = bounds * scaled. A zero matrix stays
      zero; one that holds a NaN or an infinity still does, and no other.
    """
    limits = torch.finfo(matrices.dtype)
    # Several times faster on a CPU than torch.linalg.matrix_norm.
    bounds = matrices.abs().sum(dim=-1).amax(dim=-1).clamp_(limits.tiny, limits.max)
    bounds = bounds[:, None, None]
    return matrices / bounds, bounds


def decompose(matrices: Tensor) -> Eigendecomposition:
    """`torch.linalg.eigh` of a stack, checked, without exceptions.

    Matrices whose decomposition does not converge, does not reproduce them to `MAX_RESIDUAL` or is
    not orthonormal to `MAX_NON_ORTHONORMALITY` are decomposed again, alone and in float64. What
    fails then, and what holds a NaN or an infinity, is answered by NaN, and spoils no neighbour.
    Reads flags on the host, as `torch.linalg.eigh` itself does.

    Args:
      matrices: A, [N, d, d], float32 or float64, symmetric up to rounding, scaled so that the
        squares of the entries stay within the range of the dtype (`scale_to_unit`).
    """
    infinite = ~torch.linalg.matrix_norm(matrices).isfinite()
    if infinite.any():
        matrices = torch.where(infinite[:, None, None], 0.0, matrices)
    found, sound = _solve(matrices)
    for index in (~sound).nonzero().flatten().tolist():
        alone, sound_alone = _solve(matrices[index : index + 1].double())
        for result, retried in zip(found, alone, strict=True):
            result[index] = torch.where(sound_alone, retried[0], torch.nan)
    for result in found:
        result[infinite] = torch.nan
    return found


def non_orthonormality(vectors: Tensor) -> Tensor:
    """How far V^T V is from the identity, for V [N, d, d]: about the largest norm of a row, [N].

    Measured on a few vectors of random signs, at a cost of d^2: the whole product would cost a
    tenth of an eigendecomposition and more. The vectors stand on the left of each product, where
    a CPU multiplies few of them several times faster than on the right.
    """
    probes = sign_probes(vectors).expand(len(vectors), -1, -1)
    error = torch.bmm(torch.bmm(probes, vectors.mT), vectors) - probes
    return error.abs().amax(dim=(-2, -1))


def _solve(matrices: Tensor) -> tuple[Eigendecomposition, Tensor]:
    """The decomposition, NaN if one does not converge, and whether it is sound, [N]."""
    try:
        values, vectors = torch.linalg.eigh(matrices)
    except torch.linalg.LinAlgError:
        values = matrices.new_full(matrices.shape[:-1], torch.nan)
        vectors = torch.full_like(matrices, torch.nan)
    probes = sign_probes(matrices).expand(len(matrices), -1, -1)
    turned = torch.bmm(probes, vectors).mul_(values.unsqueeze(-2))
    error = torch.bmm(turned, vectors.mT).sub_(torch.bmm(probes, matrices))
    norm = torch.linalg.matrix_norm(matrices).clamp_min(tiny(matrices))
    residual = torch.linalg.matrix_norm(error) / (norm * math.sqrt(PROBES))
    sound = residual <= MAX_RESIDUAL
    sound &= non_orthonormality(vectors) <= MAX_NON_ORTHONORMALITY[matrices.dtype]
    return Eigendecomposition(values, vectors, residual), sound
