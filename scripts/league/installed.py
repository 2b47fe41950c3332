"""Entries made of other people's packages, where these are installed."""

from collections.abc import Callable
from typing import Any

import torch

from common.cli import UserError
from scripts.local import rivals
from submission.algoperf_api import pytorch as api

# Of the entries of this project that they are set beside.
_INTERVAL = 10


def maker(name: str) -> Callable[[Any, Any], torch.optim.Optimizer]:
    """The `make_optimizer` of an entry for an optimizer of `scripts.local.rivals`."""

    def make_optimizer(parameters: Any, hyperparameters: Any) -> torch.optim.Optimizer:
        """The optimizer with a tuning point's learning rate, betas and weight decay.

        UserError if its package is not installed.
        """
        rival = rivals.available().get(name)
        if rival is None:
            raise UserError(f"entry {name!r} needs its package; {rivals.absent()[name]}")
        options = rivals.RivalOptions(
            **api.adam_arguments(hyperparameters),
            interval=_INTERVAL,
        )
        return rival.make(list(parameters), options)

    return make_optimizer
