"""The entry's Shampoo with whatever options a point names: what `scripts.league.vary` trains.

A point's hyperparameters that are arguments of `Shampoo` go to it as they are, dtypes by their
names, in place of what the entry makes of the point.
"""

import inspect
from typing import Any

import torch

from common.cli import near
from submission.algoperf_api import pytorch as api
from submission.algoperf_api.statistics import LatestBatch
from submission.entries.shampoo.options import options
from submission.shampoo import Shampoo
from workloads.hyperparameters import OPTIONAL, REQUIRED

_ARGUMENTS = frozenset(inspect.signature(Shampoo).parameters)
_READ = _ARGUMENTS.union(REQUIRED["shampoo"], OPTIONAL["shampoo"])


def make_optimizer(parameters: Any, hyperparameters: Any) -> Shampoo:
    """Shampoo with a point's options.

    AttributeError for a dtype that torch lacks, ValueError for a name that nothing here reads.
    """
    for name in hyperparameters._fields:
        if name not in _READ:
            known = f"allowed: {', '.join(sorted(_READ))}{near(_READ, name)}"
            raise ValueError(f"{name} is no option of Shampoo and no hyperparameter; {known}")
    named = {
        name: getattr(torch, value) if name.endswith("_dtype") else value
        for name, value in hyperparameters._asdict().items()
        if name in _ARGUMENTS
    }
    return Shampoo(
        parameters, **(api.adam_arguments(hyperparameters) | options(hyperparameters) | named)
    )


get_batch_size = api.get_shampoo_batch_size
init_optimizer_state = api.initializer(make_optimizer, LatestBatch)
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
