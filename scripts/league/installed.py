"""Entries made of other people's packages, where these are installed."""

from collections.abc import Callable
from typing import Any

import torch

from common.cli import UserError
from scripts.league.averaged import WeightAverage
from scripts.local import rivals
from submission.algoperf_api import pytorch as api
from submission.algoperf_api.statistics import LatestBatch

# Of the entries of this project that they are set beside.
_INTERVAL = 10


def initializer(name: str) -> Callable[..., dict[str, Any]]:
    """The `init_optimizer_state` of an entry for an optimizer of `scripts.local.rivals`."""

    def init_optimizer_state(
        workload: Any, model_params: Any, model_state: Any, hyperparameters: Any, rng: Any
    ) -> dict[str, Any]:
        """The optimizer and its schedule; with `averaging_share` in the point also an average."""
        optimizer = _make(name, model_params.parameters(), hyperparameters)
        share = getattr(hyperparameters, "averaging_share", None)
        average = {} if share is None else {"average": WeightAverage(optimizer, share)}
        return api.optimizer_state(workload, optimizer, hyperparameters, LatestBatch) | average

    return init_optimizer_state


def _make(name: str, parameters: Any, hyperparameters: Any) -> torch.optim.Optimizer:
    """The optimizer with a point's learning rate, betas, weight decay and, if there, more.

    These are `refresh_interval`, `nesterov` and `exponent`; a package's own where absent.

    Raises:
      UserError: if its package is not installed.
      ValueError: for what the package does not know.
    """
    rival = rivals.available().get(name)
    if rival is None:
        raise UserError(f"entry {name!r} needs its package; {rivals.absent()[name]}")
    options = rivals.RivalOptions(
        **api.adam_arguments(hyperparameters),
        interval=getattr(hyperparameters, "refresh_interval", _INTERVAL),
        nesterov=getattr(hyperparameters, "nesterov", False),
        exponent=getattr(hyperparameters, "exponent", None),
    )
    return rival.make(list(parameters), options)
