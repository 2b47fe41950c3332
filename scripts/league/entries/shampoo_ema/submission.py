"""This project's Shampoo, evaluated at an exponential moving average of its weights."""

from typing import Any

from submission.algoperf_api import pytorch as api
from submission.algoperf_api.statistics import LatestBatch
from submission.entries.shampoo.options import options
from submission.shampoo import Shampoo


def make_optimizer(parameters: Any, hyperparameters: Any) -> Shampoo:
    """The entry's Shampoo with a tuning point's values and an average by `averaging_decay`."""
    return Shampoo(
        parameters,
        **api.adam_arguments(hyperparameters),
        **options(hyperparameters),
        averaging="ema",
        averaging_decay=hyperparameters.averaging_decay,
    )


get_batch_size = api.get_shampoo_batch_size
init_optimizer_state = api.initializer(make_optimizer, LatestBatch)
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
