"""Distributed Shampoo with AdamW grafting, in JAX; the entry `shampoo` argues its points."""

from typing import Any

import jax
import optax

from ...algoperf_api import jax as api
from ...shampoo_jax import evaluated, shampoo, state_shardings
from ..shampoo.options import averages, options


def make_optimizer(
    learning_rate: Any, hyperparameters: Any, mesh: jax.sharding.Mesh | None
) -> optax.GradientTransformation:
    """Shampoo with what a tuning point says of AdamW and of Shampoo, divided among devices."""
    return shampoo(
        learning_rate,
        **api.adam_arguments(hyperparameters),
        **options(hyperparameters),
        mesh=mesh,
    )


def reader(hyperparameters: Any) -> Any:
    """What reads the averages of a point that asks for some; None for another."""
    return evaluated if averages(hyperparameters) else None


get_batch_size = api.get_shampoo_batch_size
init_optimizer_state = api.initializer(make_optimizer, state_shardings, reader)
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
