"""NAdamW in JAX, the benchmark's own baseline."""

from typing import Any

import optax

from ...algoperf_api import jax as api
from .nadamw import nadamw


def make_optimizer(
    learning_rate: Any, hyperparameters: Any, mesh: Any
) -> optax.GradientTransformation:
    """NAdamW with a tuning point's betas and weight decay."""
    return nadamw(learning_rate, **api.adam_arguments(hyperparameters))


get_batch_size = api.get_batch_size
init_optimizer_state = api.initializer(make_optimizer)
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
