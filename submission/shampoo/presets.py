"""Proven combinations of options, one function each.

>>> import torch
>>> model = torch.nn.Linear(8, 4)
>>> optimizer = soap(model.parameters(), lr=3e-3, weight_decay=0.1)
"""

from typing import Any

from torch.optim.optimizer import ParamsT

from ..plan.presets import winning_point
from .optimizer import Shampoo


def shampoo(params: ParamsT, **options: Any) -> Shampoo:
    """Shampoo as results/league has it: with look-ahead, rarer refreshes, a damping of 1e-6.

    Args:
      params: as for `Shampoo`.
      options: those of `Shampoo`, in place of the preset's.
    """
    return Shampoo(params, **{"nesterov": True, "refresh_interval": 20, "damping": 1e-6, **options})


def soap(params: ParamsT, **options: Any) -> Shampoo:
    """SOAP with its authors' EMA weights (Vyas et al. 2024, arXiv:2409.11321, section 6).

    Args:
      params, options: as for `shampoo`.
    """
    return Shampoo(params, **{"method": "soap", "betas": (0.95, 0.95), **options})


def kl_shampoo(params: ParamsT, **options: Any) -> Shampoo:
    """KL-Shampoo (Lin et al. 2025, arXiv:2509.03378), with the damping that results/league has.

    Args:
      params, options: as for `shampoo`.
    """
    point = {"method": "kl_shampoo", "betas": (0.95, 0.95), "damping": 1e-6}
    return Shampoo(params, **{**point, **options})


def algoperf_winner(params: ParamsT, point: int = 1, **options: Any) -> Shampoo:
    """One of the five points of the Shampoo entry that won AlgoPerf's external track.

    All have blocks up to 1024 and a refresh every 100 steps. Their damping of 1e-8 was absolute;
    here it is relative, 1e-6.

    Args:
      params: as for `Shampoo`.
      point: 1 to 5, in the entry's order.
      options: those of `Shampoo`, in place of the point's.

    Raises:
      ValueError: for another point.
    """
    return Shampoo(params, **{**winning_point(point), **options})
