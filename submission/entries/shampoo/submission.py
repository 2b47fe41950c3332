"""Distributed Shampoo with AdamW grafting; README.md argues its points."""

from typing import Any

from ...algoperf_api import pytorch as api
from ...algoperf_api.statistics import LatestBatch
from ...shampoo import Shampoo
from .options import options


def make_optimizer(parameters: Any, hyperparameters: Any) -> Shampoo:
    """Shampoo with what a tuning point says of AdamW and of Shampoo."""
    return Shampoo(parameters, **api.adam_arguments(hyperparameters), **options(hyperparameters))


get_batch_size = api.get_shampoo_batch_size
init_optimizer_state = api.initializer(make_optimizer, LatestBatch)
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
