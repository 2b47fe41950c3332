"""Small numbers, dtypes and fixed vectors that several rooms compute with."""

import math

import torch
from torch import Tensor

PROBES = 4


def tiny(tensor: Tensor) -> float:
    """The smallest normal number of a tensor's dtype."""
    return torch.finfo(tensor.dtype).tiny


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """What state is kept in, beside parameters of a dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def sign_probes(matrices: Tensor) -> Tensor:
    """Signs [PROBES, d] of a quadratic phase: as good as random, and alike on all devices.

    Made anew at each call: kept ones might be read on one CUDA stream before another has made them.

    Args:
      matrices: [N, d, d], whose dtype and device the signs have.
    """
    size = matrices.shape[-1]
    index = torch.arange(1, size * PROBES + 1, dtype=torch.float64, device=matrices.device)
    signs = index.square().mul_(math.pi * (math.sqrt(5) - 1)).cos_().sign_()
    return signs.to(matrices.dtype).view(PROBES, size)
