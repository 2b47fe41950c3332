"""What a tuning point says of Shampoo, by names that its versions for both frameworks share."""

from typing import Any

# A vocabulary's embedding is preconditioned, a table of a million rows takes AdamW's step.
MAX_DIM = 2**17


def options(hyperparameters: Any) -> dict[str, Any]:
    """Shampoo's arguments besides AdamW's.

    Reads from `hyperparameters` `nesterov`, `refresh_interval` and, where present, `exponent` (1/4
    per side if absent), `momentum` (none if absent), `damping` (1e-6 if absent),
    `averaging_share` (evaluation at an average of the weights over this share of the steps so far;
    none if absent).
    """
    averaging = {
        "averaging": "ema",
        "averaging_share": getattr(hyperparameters, "averaging_share", None),
    }
    return {
        "nesterov": hyperparameters.nesterov,
        "momentum": getattr(hyperparameters, "momentum", 0.0),
        "exponent": getattr(hyperparameters, "exponent", None),
        "refresh_interval": hyperparameters.refresh_interval,
        "damping": getattr(hyperparameters, "damping", 1e-6),
        "max_dim": MAX_DIM,
        **(averaging if averages(hyperparameters) else {}),
    }


def averages(hyperparameters: Any) -> bool:
    """Whether evaluation reads an average of the weights."""
    return getattr(hyperparameters, "averaging_share", None) is not None
