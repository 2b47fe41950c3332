"""An AlgoPerf submission for the optimizers of a comparison.

The trial's point says all: the optimizer's name and options, and the settings that are the same for
all. Training ends as soon as the comparison has its answer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from common.cli import UserError
from scripts.local import rivals
from submission.algoperf_api import pytorch as api
from workloads import spec

Evaluations = Sequence[tuple[int, Mapping[str, float]]]


def never(evaluations: Evaluations) -> bool:
    """No trial is hopeless."""
    del evaluations
    return False


class Submission:
    """The functions of the API.

    Args:
      hopeless: whether a trial with these evaluations, (step, metrics), is to be given up.
    """

    get_batch_size = staticmethod(api.get_batch_size)
    data_selection = staticmethod(api.data_selection)
    prepare_for_eval = staticmethod(api.prepare_for_eval)

    def __init__(self, hopeless: Callable[[Evaluations], bool] = never) -> None:
        self.hopeless = hopeless
        self._evaluations_seen = 0

    def init_optimizer_state(
        self,
        workload: Any,
        model_params: nn.Module,
        model_state: Any,
        hyperparameters: Any,
        rng: Any,
    ) -> dict[str, Any]:
        """The optimizer that the point names, and its schedule; raises as `make_optimizer`."""
        del model_state, rng
        optimizer = make_optimizer(list(model_params.parameters()), hyperparameters)
        return api.optimizer_state(workload, optimizer, hyperparameters)

    def update_params(
        self,
        *,
        workload: spec.Workload,
        eval_results: Evaluations,
        **rest: Any,
    ) -> tuple[dict[str, Any], nn.Module, Any]:
        """`api.update_params`, as long as more steps can tell more.

        Raises:
          TrainingCompleteError: if the last evaluation met the validation target or is not finite,
            or the trial is hopeless.
        """
        if len(eval_results) > self._evaluations_seen:
            self._evaluations_seen = len(eval_results)
            if self._decided(workload, eval_results):
                raise spec.TrainingCompleteError
        return api.update_params(workload=workload, eval_results=list(eval_results), **rest)

    def _decided(self, workload: spec.Workload, evaluations: Evaluations) -> bool:
        last = evaluations[-1][1]
        values = [value for name, value in last.items() if name.startswith("validation/")]
        return (
            not all(math.isfinite(value) for value in values)
            or workload.has_reached_validation_target(dict(last))
            or self.hopeless(evaluations)
        )


def make_optimizer(params: list[nn.Parameter], point: Any) -> torch.optim.Optimizer:
    """The optimizer of a point of `Comparison.trial`.

    Raises:
      UserError: if it is not installed, or nothing is known by its name.
      TypeError, ValueError: for an option that it lacks or that is out of range.
    """
    found = rivals.available()
    if point.optimizer not in found:
        reason = rivals.absent().get(point.optimizer, f"known: {', '.join(found)}")
        raise UserError(f"there is no optimizer {point.optimizer!r} here; {reason}")
    options = dict(point.options)
    shared = {name: options.pop(name) for name in ("eps", "weight_decay", "block_size", "nesterov")}
    chosen = rivals.RivalOptions(
        lr=point.learning_rate,
        betas=tuple(options.pop("betas")),
        interval=options.pop("refresh_interval"),
        **shared,
        ours=with_dtypes(options),
    )
    if chosen.ours and not point.optimizer.startswith("ours_"):
        raise ValueError(f"{point.optimizer} has no option {min(chosen.ours)!r} here")
    return found[point.optimizer].make(params, chosen)


def with_dtypes(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` with dtypes in place of their names."""
    return {
        name: getattr(torch, value) if name.endswith("_dtype") else value
        for name, value in options.items()
    }
