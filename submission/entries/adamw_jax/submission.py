"""AdamW in JAX, the baseline that time-to-target is compared with."""

from typing import Any

import optax

from ...algoperf_api import jax as api


def make_optimizer(
    learning_rate: Any, hyperparameters: Any, mesh: Any
) -> optax.GradientTransformation:
    """optax's AdamW with a tuning point's betas and weight decay."""
    return optax.adamw(learning_rate, **api.adam_arguments(hyperparameters))


get_batch_size = api.get_batch_size
init_optimizer_state = api.initializer(make_optimizer)
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
