"""Distributed Shampoo without hyperparameters, in JAX, with the numbers of its PyTorch twin."""

from ...algoperf_api import jax as api
from ...shampoo_jax import state_shardings
from ..shampoo_jax.submission import make_optimizer, reader
from ..shampoo_self_tuning.point import POINT

get_batch_size = api.get_shampoo_batch_size
init_optimizer_state = api.with_hyperparameters(
    api.initializer(make_optimizer, state_shardings, reader), POINT
)
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
