"""Distributed Shampoo without hyperparameters; README.md argues its numbers."""

from ...algoperf_api import pytorch as api
from ..shampoo import submission as external
from .point import POINT

get_batch_size = api.get_shampoo_batch_size
init_optimizer_state = api.with_hyperparameters(external.init_optimizer_state, POINT)
data_selection = api.data_selection
update_params = api.with_hyperparameters(api.update_params, POINT)
prepare_for_eval = api.with_hyperparameters(api.prepare_for_eval, POINT)
