"""SOAP as this project implements it (Vyas et al. 2024, arXiv:2409.11321)."""

from typing import Any

from submission.algoperf_api import pytorch as api
from submission.shampoo import Shampoo
from submission.shampoo.presets import soap


def make_optimizer(parameters: Any, hyperparameters: Any) -> Shampoo:
    """SOAP with a tuning point's learning rate, betas, weight decay and refresh interval."""
    return soap(
        parameters,
        **api.adam_arguments(hyperparameters),
        refresh_interval=hyperparameters.refresh_interval,
    )


get_batch_size = api.get_batch_size
init_optimizer_state = api.initializer(make_optimizer)
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
