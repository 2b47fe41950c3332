"""SGD with Nesterov momentum; sets targets together with AdamW and NAdamW."""

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
    """SGD with Nesterov momentum; sets targets together with AdamW and NAdamW, and its schedule."""
    del model_state, rng
    optimizer = torch.optim.SGD(
        model_params.parameters(),
        lr=hyperparameters.learning_rate,
        momentum=1 - hyperparameters.one_minus_beta1,
        nesterov=True,
        weight_decay=hyperparameters.weight_decay,
        fused=True,
    )
    return api.optimizer_state(workload, optimizer, hyperparameters)
