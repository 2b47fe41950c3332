"""AdamW that is evaluated at an exponential moving average of its weights."""

from typing import Any

from submission.algoperf_api import pytorch as api
from submission.algoperf_api.statistics import LatestBatch
from submission.shampoo import Shampoo


def make_optimizer(parameters: Any, hyperparameters: Any) -> Shampoo:
    """AdamW with a tuning point's values and an average over `averaging_share` of the steps so far.

    The project's optimizer takes AdamW's step where all parameters are told to be tables.
    """
    return Shampoo(
        parameters,
        **api.adam_arguments(hyperparameters),
        table=True,
        averaging="ema",
        averaging_share=hyperparameters.averaging_share,
    )


get_batch_size = api.get_batch_size
init_optimizer_state = api.initializer(make_optimizer, LatestBatch)
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
