"""Distributed Shampoo with AdamW grafting; README.md argues its points."""

from typing import Any

from ...algoperf_api import pytorch as api
from ...shampoo import Shampoo

# A vocabulary's embedding is preconditioned, a table of a million rows takes AdamW's step.
MAX_DIM = 2**17


def make_optimizer(parameters: Any, hyperparameters: Any) -> Shampoo:
    """Shampoo with the options of a tuning point.

    Reads from `hyperparameters` AdamW's, `nesterov`, `refresh_interval` and, where present,
    `exponent` (1/4 per side if absent), `momentum` (none if absent), `damping` (the optimizer's
    own if absent), `averaging_share` (evaluation at an average of the weights over this share of
    the steps so far; none if absent) and `averaging_blend` (the average's part in what is
    evaluated; 1 if absent).
    """
    damping = getattr(hyperparameters, "damping", None)
    share = getattr(hyperparameters, "averaging_share", None)
    averaging: dict[str, Any] = {
        "averaging": "ema",
        "averaging_share": share,
        "averaging_blend": getattr(hyperparameters, "averaging_blend", 1.0),
    }
    return Shampoo(
        parameters,
        **api.adam_arguments(hyperparameters),
        nesterov=hyperparameters.nesterov,
        momentum=getattr(hyperparameters, "momentum", 0.0),
        exponent=getattr(hyperparameters, "exponent", None),
        refresh_interval=hyperparameters.refresh_interval,
        max_dim=MAX_DIM,
        **({} if damping is None else {"damping": damping}),
        **({} if share is None else averaging),
    )


get_batch_size = api.get_shampoo_batch_size
init_optimizer_state = api.initializer(make_optimizer)
data_selection = api.data_selection
update_params = api.update_params
prepare_for_eval = api.prepare_for_eval
