"""The Shampoo entry that won AlgoPerf's external track: its options, run through this optimizer."""

from typing import Any

from submission.algoperf_api import pytorch as api
from submission.shampoo import Shampoo
from submission.shampoo.presets import algoperf_winner


def make_optimizer(parameters: Any, hyperparameters: Any) -> Shampoo:
    """The options of its first point with a tuning point's rate, betas and weight decay.

    They are Adam's grafting, roots of 1/4 per side, blocks up to 1024, the look-ahead, the least
    damping that float32 resolves, and a refresh every 100 steps.
    """
    return algoperf_winner(
        parameters,
        **api.adam_arguments(hyperparameters),
    )


get_batch_size = api.get_batch_size
init_optimizer_state = api.initializer(make_optimizer)
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
