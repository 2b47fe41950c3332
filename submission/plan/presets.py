"""The options of proven points, which both frameworks' presets share."""

from typing import Any

# Learning rate, 1 - beta1, 1 - beta2, weight decay and the rest of each point, from the entry's
# tuning_search_space.json (AlgoPerf v0.5 and v0.6, external ruleset). Its momentum is an EMA, which
# makes steps (1 - momentum) times as long as ours, hence that factor of two learning rates; the
# weight decay is divided by it, so that what a step decays is the same.
_POINTS: tuple[dict[str, Any], ...] = (
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


def winning_point(point: int) -> dict[str, Any]:
    """The options of one of the five points of the entry that won AlgoPerf's external track.

    Raises:
      ValueError: for another point.

    >>> winning_point(3)["grafting"], winning_point(3)["refresh_interval"]
    ('sgd', 100)
    """
    if point not in range(1, len(_POINTS) + 1):
        raise ValueError(f"point must be an integer from 1 to 5, got {point!r}.")
    shared = {
        "exponent": None,
        "damping": 1e-6,
        "refresh_interval": 100,
        "block_aspect": float("inf"),
    }
    return shared | _POINTS[point - 1]
