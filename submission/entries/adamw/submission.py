"""AdamW, the baseline that time-to-target is compared with."""

from typing import Any

import torch

from ...algoperf_api import pytorch as api
from ...algoperf_api.pytorch import (
    data_selection,
    get_batch_size,
    prepare_for_eval,
    update_params,
)

__all__ = [
    "data_selection",
    "get_batch_size",
    "init_optimizer_state",
    "prepare_for_eval",
    "update_params",
]


def init_optimizer_state(
    workload: Any, model_params: Any, model_state: Any, hyperparameters: Any, rng: Any
) -> dict[str, Any]:
    """AdamW, the baseline that time-to-target is compared with, and its schedule."""
    del model_state, rng
    optimizer = torch.optim.AdamW(
        model_params.parameters(),
        lr=hyperparameters.learning_rate,
        betas=(1 - hyperparameters.one_minus_beta1, 1 - hyperparameters.one_minus_beta2),
        weight_decay=hyperparameters.weight_decay,
        fused=True,
    )
    return api.optimizer_state(workload, optimizer, hyperparameters)
