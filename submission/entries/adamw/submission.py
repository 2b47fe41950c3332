"""AdamW, the baseline that time-to-target is compared with."""

from typing import Any

import torch

from ...algoperf_api import pytorch as api


def make_optimizer(parameters: Any, hyperparameters: Any) -> torch.optim.Optimizer:
    """torch's fused AdamW with a tuning point's learning rate, betas and weight decay."""
    return torch.optim.AdamW(
        parameters,
        **api.adam_arguments(hyperparameters),
        fused=True,
    )


get_batch_size = api.get_batch_size
init_optimizer_state = api.initializer(make_optimizer)
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
