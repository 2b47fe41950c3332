"""NAdamW, the benchmark's own baseline."""

from typing import Any

from ...algoperf_api import pytorch as api
from .nadamw import NAdamW


def make_optimizer(parameters: Any, hyperparameters: Any) -> NAdamW:
    """NAdamW with a tuning point's learning rate, betas and weight decay."""
    return NAdamW(
        parameters,
        **api.adam_arguments(hyperparameters),
    )


get_batch_size = api.get_batch_size
init_optimizer_state = api.initializer(make_optimizer)
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
