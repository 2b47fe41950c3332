"""Shampoo of Meta's package distributed_shampoo, where that is installed."""

from scripts.league import installed
from submission.algoperf_api import pytorch as api

get_batch_size = api.get_batch_size
init_optimizer_state = installed.initializer("meta_shampoo")
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
