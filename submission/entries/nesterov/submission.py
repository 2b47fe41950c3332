"""SGD with Nesterov momentum; sets targets together with AdamW and NAdamW."""

from typing import Any

import torch

from ...algoperf_api import pytorch as api


def make_optimizer(parameters: Any, hyperparameters: Any) -> torch.optim.Optimizer:
    """torch's fused SGD with a tuning point's learning rate, momentum and weight decay."""
    return torch.optim.SGD(
        parameters,
        lr=hyperparameters.learning_rate,
        momentum=1 - hyperparameters.one_minus_beta1,
        nesterov=True,
        weight_decay=hyperparameters.weight_decay,
        fused=True,
    )


get_batch_size = api.get_batch_size
init_optimizer_state = api.initializer(make_optimizer)
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
