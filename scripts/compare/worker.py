"""Runs the trials of a chain, all in one process.

One process, because starting Python, torch and the data costs as much as a hundred steps. A trial
is an ordinary one of `runner.run_trial`, in the ordinary folder, whose submission is a rival and
which ends as soon as the comparison has its answer.
"""

import math
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common import files
from common.cli import UserError, near
from scripts.compare import schedule
from scripts.compare.chain import FAILURE, Chain, choose, is_hopeless
from scripts.local import environment, rivals, runner
from scripts.local.curve import Curve
from scripts.local.lock import locked
from scripts.local.runner import Evaluations
from scripts.local.trial import Trial
from submission.algoperf_api import pytorch as api


def make_optimizer(params: Iterable[nn.Parameter], point: Any) -> torch.optim.Optimizer:
    """The optimizer of a point of `Comparison.trial`.

    Raises:
      UserError: if it is not installed, or nothing is known by its name.
      TypeError, ValueError: for an option that it lacks or that is out of range.
    """
    available = rivals.available()
    if point.optimizer not in available:
        reason = rivals.absent().get(
            point.optimizer, f"known: {', '.join(available)}{near(available, point.optimizer)}"
        )
        raise UserError(f"there is no optimizer {point.optimizer!r} here; {reason}")
    options = dict(point.options)
    shared = {name: options.pop(name) for name in ("eps", "weight_decay", "block_size", "nesterov")}
    chosen = rivals.RivalOptions(
        lr=point.learning_rate,
        betas=tuple(options.pop("betas")),
        interval=options.pop("refresh_interval"),
        **shared,
        shampoo_options=with_dtypes(options),
    )
    if chosen.shampoo_options and not point.optimizer.startswith("ours_"):
        raise ValueError(f"{point.optimizer} has no option {min(chosen.shampoo_options)!r} here")
    return available[point.optimizer].make(list(params), chosen)


def init_optimizer_state(
    workload: Any, model_params: Any, model_state: Any, hyperparameters: Any, rng: Any
) -> dict[str, Any]:
    """The optimizer and the schedule of a point of `Comparison.trial`."""
    optimizer = make_optimizer(model_params.parameters(), hyperparameters)
    return schedule.optimizer_state(workload, optimizer, hyperparameters)


class Submission:
    """The functions of the API for the optimizer that a trial's point names."""

    get_batch_size = staticmethod(api.get_batch_size)
    init_optimizer_state = staticmethod(init_optimizer_state)
    data_selection = staticmethod(api.data_selection)
    update_params = staticmethod(api.update_params)
    prepare_for_eval = staticmethod(api.prepare_for_eval)


def with_dtypes(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` with dtypes in place of their names."""
    return {
        name: getattr(torch, value) if name.endswith("_dtype") else value
        for name, value in options.items()
    }


def run(chain: Chain, flags: Mapping[str, Any]) -> int:
    """Runs what is left of a chain; 1 if a trial failed. A failed trial does not end it.

    Args:
      flags: of the command line, for the trials' files.
    """
    failed = 0
    while (trial := chain.progress().following) is not None:
        directory = files.make_directory(trial.directory(chain.logs))
        with locked(directory, "this trial"):
            failure = _run_trial(chain, trial, directory, flags)
        rate = trial.hyperparameters["learning_rate"]
        print(f"{trial.name}, rate {rate:g}: {failure or 'complete'}", flush=True)
        if failure:
            failed += 1
            files.write_json(directory / FAILURE, {"failure": failure})
    return int(failed > 0)


def _run_trial(chain: Chain, trial: Trial, directory: Path, flags: Mapping[str, Any]) -> str:
    """Trains and evaluates; returns why it failed, or nothing.

    There are no checkpoints: a trial takes seconds, and not every rival's state can be restored.
    """

    def started(preemption_count: int, step: int) -> None:
        del step
        cores = environment.available_cores()
        runner.write_settings(trial, directory, preemption_count, flags, cores)

    hooks = runner.Hooks(started, decided=_decided(chain, trial))
    try:
        runner.run_trial(trial, directory, math.inf, hooks, lambda entry: Submission)
    except Exception as error:  # an optimizer may raise anything
        traceback.print_exc()
        line = (str(error).splitlines() or [""])[0]
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        return f"{kind}{line}"
    return ""


def _decided(chain: Chain, trial: Trial) -> Callable[[Evaluations], bool]:
    """Whether more steps of a trial can tell nothing more.

    So it is if the last value met the validation target or is not finite, or the trial is hopeless.
    """
    facts, leader = chain.facts, choose(chain.progress().searched, chain.facts)

    def decided(evaluations: Sequence[tuple[int, Mapping[str, float]]]) -> bool:
        name = f"validation/{facts.metric}"
        curve = Curve(facts, [(step, metrics[name]) for step, metrics in evaluations])
        _, value = curve.points[-1]
        return (
            not math.isfinite(value)
            or facts.meets(value, facts.validation_target)
            or is_hopeless(trial, curve, leader)
        )

    return decided
