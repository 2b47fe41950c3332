"""Distributed Shampoo without hyperparameters; README.md argues its numbers."""

import types

from ...algoperf_api import pytorch as api
from ..shampoo.submission import make_optimizer

# A point without a dropout rate leaves each workload its default.
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

get_batch_size = api.get_shampoo_batch_size
init_optimizer_state = api.with_hyperparameters(api.initializer(make_optimizer), POINT)
data_selection = api.data_selection
update_params = api.with_hyperparameters(api.update_params, POINT)
prepare_for_eval = api.prepare_for_eval
