"""Distributed Shampoo without hyperparameters; README.md argues its numbers."""

import types

from ...algoperf_api.pytorch import data_selection, prepare_for_eval, with_hyperparameters
from ..shampoo import submission as shampoo
from ..shampoo.submission import get_batch_size

__all__ = [
    "data_selection",
    "get_batch_size",
    "init_optimizer_state",
    "prepare_for_eval",
    "update_params",
]

# Without a dropout rate each workload has its own default.
POINT = types.SimpleNamespace(
    learning_rate=0.001308209823469072,
    one_minus_beta1=0.02686663061,
    one_minus_beta2=0.00187670778,
    weight_decay=0.16375311233774334,
    label_smoothing=0.1,
    warmup_factor=0.1,
    step_hint_factor=1.0,
    budget_factor=1.47,
    nesterov=True,
    exponent=0.25,
    refresh_interval=100,
)
init_optimizer_state = with_hyperparameters(shampoo.init_optimizer_state, POINT)
update_params = with_hyperparameters(shampoo.update_params, POINT)
