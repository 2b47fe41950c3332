"""Distributed Shampoo with AdamW grafting; README.md argues its points."""

from typing import Any

from ...algoperf_api import pytorch as api
from ...algoperf_api.pytorch import data_selection, prepare_for_eval, update_params
from ...algoperf_api.pytorch import get_shampoo_batch_size as get_batch_size
from ...shampoo import Shampoo

__all__ = [
    "data_selection",
    "get_batch_size",
    "init_optimizer_state",
    "prepare_for_eval",
    "update_params",
]

# A vocabulary's embedding is preconditioned, a table of a million rows takes AdamW's step.
MAX_DIM = 2**17


def init_optimizer_state(
    workload: Any, model_params: Any, model_state: Any, hyperparameters: Any, rng: Any
) -> dict[str, Any]:
    """Shampoo and its schedule.

    Reads from `hyperparameters` AdamW's, `nesterov`, `refresh_interval` and, where present,
    `exponent` (1/4 per side if absent) and `momentum` (none if absent).
    """
    del model_state, rng
    optimizer = Shampoo(
        model_params.parameters(),
        lr=hyperparameters.learning_rate,
        betas=(1 - hyperparameters.one_minus_beta1, 1 - hyperparameters.one_minus_beta2),
        weight_decay=hyperparameters.weight_decay,
        nesterov=hyperparameters.nesterov,
        momentum=getattr(hyperparameters, "momentum", 0.0),
        exponent=getattr(hyperparameters, "exponent", None),
        refresh_interval=hyperparameters.refresh_interval,
        max_dim=MAX_DIM,
    )
    return api.optimizer_state(workload, optimizer, hyperparameters)
