"""Proven combinations of options, one function each.

>>> import torch
>>> model = torch.nn.Linear(8, 4)
>>> optimizer = soap(model.parameters(), lr=3e-3, weight_decay=0.1)
"""

from typing import Any

from torch.optim.optimizer import ParamsT

from .optimizer import Shampoo


def shampoo(params: ParamsT, **options: Any) -> Shampoo:
    """Shampoo as it measures best here: Adam's step length on full whitening, exponent 1/2.

    (Morwani et al. 2024, arXiv:2406.17748; fewer steps than 1/4 on all stand-ins, see
    results/peers/compare.md.) It is no default since it forgives less: without Adam's grafting,
    with heavy ball, schedule-free or bfloat16 factors it does not converge on problems of
    tests/submission/shampoo/zoo.py on which 1/4 does.

    Args:
      params: as for `Shampoo`.
      options: those of `Shampoo`, in place of the preset's.
    """
    return Shampoo(params, **{"method": "shampoo", "exponent": 0.5, **options})


def soap(params: ParamsT, **options: Any) -> Shampoo:
    """SOAP with its authors' EMA weights (Vyas et al. 2024, arXiv:2409.11321, section 6).

    Args:
      params, options: as for `shampoo`.
    """
    return Shampoo(params, **{"method": "soap", "betas": (0.95, 0.95), **options})


def kl_shampoo(params: ParamsT, **options: Any) -> Shampoo:
    """KL-Shampoo (Lin et al. 2025, arXiv:2509.03378).

    Args:
      params, options: as for `shampoo`.
    """
    return Shampoo(params, **{"method": "kl_shampoo", "betas": (0.95, 0.95), **options})


# Learning rate, 1 - beta1, 1 - beta2, weight decay and the rest of each point, from the entry's
# tuning_search_space.json (AlgoPerf v0.5 and v0.6, external ruleset). Its momentum is an EMA, which
# makes steps (1 - momentum) times as long as ours, hence that factor of two learning rates; the
# weight decay is divided by it, so that what a step decays is the same.
_WINNING_POINTS: tuple[dict[str, Any], ...] = (
    {
        "lr": 0.0017486387539278373,
        "betas": (1 - 0.06733926, 1 - 4.48403e-3),
        "weight_decay": 0.0812162,
        "nesterov": True,
    },
    {
        "lr": 0.0014381744028656841,
        "betas": (1 - 0.02533754, 1 - 2.508024e-2),
        "weight_decay": 1.971663e-4,
        "nesterov": True,
    },
    {
        "lr": 4.199449275251465 * 0.0315021,
        "betas": (0.0, 1 - 2.370174e-3),
        "weight_decay": 6.404237e-5 / 0.0315021,
        "grafting": "sgd",
        "momentum": 1 - 0.0315021,
        "nesterov": True,
    },
    {
        "lr": 1.2e-3 * 0.5,
        "betas": (1 - 0.01661070, 1 - 5.888217e-3),
        "weight_decay": 4.034995e-4 / 0.5,
        "momentum": 0.5,
        "exponent": 0.5,
        "nesterov": True,
    },
    {
        "lr": 0.001308209823469072,
        "betas": (1 - 0.02686663, 1 - 1.876708e-3),
        "weight_decay": 0.1637531,
        "nesterov": True,
    },
)


def algoperf_winner(params: ParamsT, point: int = 1, **options: Any) -> Shampoo:
    """One of the five points of the Shampoo entry that won AlgoPerf's external track.

    All have blocks up to 1024, a refresh every 100 steps and damping 1e-8 there, absolute; here
    it is relative, and as small as float32 resolves.

    Args:
      params: as for `Shampoo`.
      point: 1 to 5, in the entry's order.
      options: those of `Shampoo`, in place of the point's.

    Raises:
      ValueError: for another point.
    """
    if point not in range(1, len(_WINNING_POINTS) + 1):
        raise ValueError(f"point must be an integer from 1 to 5, got {point!r}.")
    values = {"refresh_interval": 100, "block_aspect": float("inf"), **_WINNING_POINTS[point - 1]}
    return Shampoo(params, **{**values, **options})
