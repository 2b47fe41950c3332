"""Checked eigendecompositions of stacks of symmetric matrices."""

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..plan import solvers
from ..plan.solvers import MAX_RESIDUAL, PROBES
from .devices import is_host, is_true

MAX_NON_ORTHONORMALITY = {
    dtype: solvers.MAX_NON_ORTHONORMALITY[torch.finfo(dtype).bits]
    for dtype in (torch.float32, torch.float64)
}


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
    norms = torch.linalg.matrix_norm(matrices)
    finite = norms < math.inf
    spoilt = not is_true(finite.all(), otherwise=True)
    if spoilt:
        infinite = ~finite
        matrices = torch.where(infinite[:, None, None], 0.0, matrices)
        norms = torch.where(infinite, 0.0, norms)
    results, sound = _eigh(matrices, norms)
    wrong = [] if is_true(sound.all(), otherwise=True) else (~sound).nonzero().flatten().tolist()
    for index in wrong:
        single = matrices[index : index + 1].double()
        alone, sound_alone = _eigh(single, torch.linalg.matrix_norm(single))
        for result, retried in zip(results, alone, strict=True):
            result[index] = torch.where(sound_alone, retried[0], torch.nan)
    if spoilt:
        for result in results:
            result[infinite] = torch.nan
    return results


def non_orthonormality(vectors: Tensor, probes: Tensor | None = None) -> Tensor:
    """How far V^T V is from the identity, for V [N, d, d]: about the largest norm of a row, [N].

    Measured on a few vectors of random signs, at a cost of d^2: the whole product would cost a
    tenth of an eigendecomposition and more. The vectors stand on the left of each product, where
    a CPU multiplies few of them several times faster than on the right.

    Args:
      vectors: V.
      probes: these vectors, [N, PROBES, d], where the caller has them.
    """
    if probes is None:
        probes = sign_probes(vectors).expand(len(vectors), -1, -1)
    error = torch.bmm(torch.bmm(probes, vectors.mT), vectors) - probes
    return error.abs().amax(dim=(-2, -1))


def _eigh(matrices: Tensor, norms: Tensor) -> tuple[Eigendecomposition, Tensor]:
    """The decomposition, NaN if one does not converge, and whether it is sound, [N].

    Args:
      matrices: [N, d, d].
      norms: their Frobenius norms, [N].
    """
    try:
        values, vectors = torch.linalg.eigh(matrices)
    except torch.linalg.LinAlgError:
        values = matrices.new_full(matrices.shape[:-1], torch.nan)
        vectors = torch.full_like(matrices, torch.nan)
    probes = sign_probes(matrices).expand(len(matrices), -1, -1)
    rotated = torch.bmm(probes, vectors).mul_(values.unsqueeze(-2))
    error = torch.bmm(rotated, vectors.mT).sub_(torch.bmm(probes, matrices))
    norms = norms.clamp_min(torch.finfo(matrices.dtype).tiny)
    residual = torch.linalg.matrix_norm(error) / (norms * math.sqrt(PROBES))
    sound = residual <= MAX_RESIDUAL
    sound &= non_orthonormality(vectors, probes) <= MAX_NON_ORTHONORMALITY[matrices.dtype]
    return Eigendecomposition(values, vectors, residual), sound


def sign_probes(matrices: Tensor) -> Tensor:
    """Signs [PROBES, d] of a quadratic phase: as good as random, and alike on all devices.

    Made once on a CPU; elsewhere one stream might read them before another has made them.

    Args:
      matrices: [N, d, d], whose dtype and device the signs have; not to be written to.
    """
    size, dtype, device = matrices.shape[-1], matrices.dtype, matrices.device
    return _cpu_signs(size, dtype) if is_host(device) else _signs(size, dtype, device)


def _signs(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    index = torch.arange(1, size * PROBES + 1, dtype=torch.float64, device=device)
    signs = index.square().mul_(math.pi * (math.sqrt(5) - 1)).cos_().sign_()
    return signs.to(dtype).view(PROBES, size)


@functools.lru_cache(maxsize=64)
def _cpu_signs(size: int, dtype: torch.dtype) -> Tensor:
    return _signs(size, dtype, torch.device("cpu"))


def damped(values: Tensor, damping: float, dim: int = -1) -> Tensor:
    """Eigenvalues along a dimension plus a fraction of the largest, and above zero."""
    limit = torch.finfo(values.dtype).tiny
    return (values + damping * values.amax(dim, keepdim=True)).clamp_min(limit)
