"""Matrices to take inverse roots of: graded spectra, and inputs that break solvers."""

import dataclasses

import numpy as np
import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class RootInput:
    """A symmetric matrix A with its eigendecomposition in float64.

    Attributes:
      matrix: A, [d, d], float32: what solvers are given.
      values: [d], float64, ascending; of A before it was rounded, NaN if A is not finite.
      vectors: [d, d], float64.
    """

    name: str
    matrix: Tensor
    values: Tensor
    vectors: Tensor

    def power(self, exponent: float, damping: float) -> Tensor:
        """A^exponent, [d, d], of the damped A, negative eigenvalues being 0; in float64."""
        largest = self.values[-1]
        damped = self.values.clamp_min(0) + damping * largest
        if largest <= 0:
            damped = torch.ones_like(damped)
        return (self.vectors * damped.pow(exponent)) @ self.vectors.T

    def gradient(self) -> Tensor:
        """A random matrix whose columns have covariance A, [d, d], float64."""
        noise = torch.randn(self.matrix.shape, generator=_generator(1), dtype=torch.float64)
        return (self.vectors * self.values.clamp_min(0).sqrt()) @ (self.vectors.T @ noise)


def log_uniform(size: int, condition: float) -> RootInput:
    """Eigenvalues evenly spaced on a logarithmic scale from 1/condition to 1."""
    values = torch.from_numpy(np.geomspace(1 / condition, 1, size))
    vectors = _orthonormal(size)
    matrix = ((vectors * values) @ vectors.T).float()
    return RootInput(f"condition {condition:.0e}, d = {size}", matrix, values, vectors)


def failures(size: int) -> list[RootInput]:
    """Matrices that are known to break solvers: [size, size], one of them [1, 1]."""
    low_rank = _covariance(size, 3)
    identity = torch.eye(size, dtype=torch.float64)
    sparse = torch.zeros(size, dtype=torch.float64)
    sparse[:6] = torch.tensor([3.0, 1.0, 0.5, 1e-2, 1e-3, 1e-5])
    half = size // 2
    repeated = torch.cat([torch.full((size - half,), 1e-3), torch.ones(half)]).double()
    vectors = _orthonormal(size)
    graded = torch.from_numpy(np.geomspace(1e-3, 1, size))
    negative = graded.clone()
    negative[0] = -1e-4
    spoiled = low_rank.clone()
    spoiled[1, 2] = spoiled[2, 1] = torch.nan
    overflowed = low_rank.clone()
    overflowed[1, 1] = torch.inf
    below = 1e-7 * torch.linalg.matrix_norm(low_rank, 2) * identity
    matrices = {
        "zero": torch.zeros(size, size),
        "identity": identity,
        "rank one": torch.ones(size, size),
        "rank three": low_rank,
        "repeated eigenvalues": (vectors * repeated) @ vectors.T,
        "diagonal of six": torch.diag(sparse),
        "rank three, 1e-30": low_rank * 1e-30,
        "rank three, 1e-42 (denormal)": low_rank * 1e-42,
        "rank three, 1e8": low_rank * 1e8,
        "rank three, 1e30": low_rank * 1e30,
        "rank three - 1e-7 lmax I": low_rank - below,
        "one eigenvalue -1e-4 lmax": (vectors * negative) @ vectors.T,
        "1x1": torch.full((1, 1), 3.0),
        "NaN": spoiled,
        "infinity": overflowed,
    }
    return [decomposed(name, matrix.float()) for name, matrix in matrices.items()]


def decomposed(name: str, matrix: Tensor) -> RootInput:
    """An input with the eigenvalues and vectors that float64 finds; NaN if it is not finite."""
    wide = matrix.double()
    if not wide.isfinite().all():
        values = torch.full_like(wide[0], torch.nan)
        return RootInput(name, matrix, values, torch.full_like(wide, torch.nan))
    return RootInput(name, matrix, *torch.linalg.eigh(wide))


def _covariance(size: int, rank: int) -> Tensor:
    factor = torch.randn(size, rank, generator=_generator(2), dtype=torch.float64)
    return factor @ factor.T / rank


def _orthonormal(size: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=_generator(3), dtype=torch.float64)).Q


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
