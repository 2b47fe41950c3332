"""AlgoPerf's clock on this machine: one trial, timed, evaluated, checkpointed, resumable.

The clock runs while the submission selects data, updates parameters and prepares for evaluation.
It stands still during initialisation, evaluation, logging and checkpointing. Several ranks under
`torch.distributed` train together; rank 0 evaluates and writes all files. Unlike the official
runner, which evaluates after so many seconds, this one evaluates after so many steps: the steps
to a target then depend on the seed alone, not on the machine.
"""

import dataclasses
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from common import files
from scripts.local import checkpoint, entries, environment, ranks, trial_state
from scripts.local.clock import now
from scripts.local.metrics_log import MetricsLog
from scripts.local.trial import CHECKPOINT, HPARAMS, STATUS, Trial, require_same
from scripts.local.trial_state import TrialState
from submission.algoperf_api import spec
from workloads import prng, registry
from workloads.standin import replicas


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What a trial calls between two steps; never on the clock.

    Rank 0 calls the first two, all ranks the last.

    Attributes:
      started: called with the preemption count and the first step, once a resume has succeeded.
      evaluated: called with the step and the evaluation's metrics.
      stop_requested: whether to save a checkpoint now and raise `Stopped`.
    """

    started: Callable[[int, int], None] = lambda preemption_count, step: None
    evaluated: Callable[[int, dict[str, Any]], None] = lambda step, metrics: None
    stop_requested: Callable[[], bool] = lambda: False


class Stopped(Exception):  # noqa: N818 - not an error
    """The trial was asked to stop; its checkpoint is saved."""


def run_trial(
    trial: Trial,
    directory: Path,
    checkpoint_period_seconds: float,
    hooks: Hooks,
    load: Callable[[str], Any] = entries.load,
) -> dict[str, Any]:
    """Runs or resumes a trial to its end, writes its files, and returns its status.

    All ranks call this with the same trial and directory.

    Args:
      load: from the trial's `entry` to the functions of the API.

    Raises:
      UserError: the entry cannot use the point, or the checkpoint is damaged or was written with
        other settings, threads, ranks or torch; nothing has been written then.
      Stopped: `hooks.stop_requested` asked for it.
    """
    saved = directory / CHECKPOINT
    snapshot = checkpoint.load(saved) if saved.exists() else None
    if snapshot is not None:
        for part, expected in trial_state.identity(trial).items():
            where = f"cannot resume from checkpoint {saved}: it"
            require_same(where, snapshot.get(part), expected)
    state = trial_state.start(trial, MetricsLog(directory), load)
    if snapshot is not None:
        try:
            state.restore(snapshot)
        except Exception as error:  # whatever a library raises for state that does not fit
            raise checkpoint.unusable(saved, error) from error
    first = replicas.rank() == 0
    if first:
        hooks.started(state.preemption_count, state.global_step)
        state.log.write()
    reason = _Run(trial, state, saved, checkpoint_period_seconds, hooks).train()
    score = state.train_state["accumulated_submission_time"]
    status = {
        "status": "complete",
        "reason": reason,
        "global_step": state.global_step,
        "accumulated_submission_time": score,
        "evaluations": len(state.eval_results),
    }
    if first:
        state.log.append_scalar_metrics({"score": score}, state.global_step)
        state.log.write()
        files.write_json(directory / STATUS, status)
        saved.unlink(missing_ok=True)
    return status


def write_settings(
    trial: Trial,
    directory: Path,
    preemption_count: int,
    flags: Mapping[str, Any],
    cores: Sequence[int],
) -> None:
    """Writes hparams.json, flags_N.json and meta_data_N.json of a trial that has started.

    Args:
      flags: of the command line.
      cores: that the trial may use, all ranks together.
    """
    cuda = torch.cuda.is_available()
    meta_data = {
        **{
            f"workload.{name}": value
            for name, value in vars(registry.facts(trial.workload)).items()
        },
        **environment.describe(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "nproc": replicas.count(),
        "threads": torch.get_num_threads(),
        "cores": cores,
        "rng_seed": trial.rng_seed,
    }
    files.write_json(directory / HPARAMS, dict(trial.hyperparameters))
    files.write_json(directory / f"flags_{preemption_count}.json", {**flags, **trial.settings()})
    files.write_json(directory / f"meta_data_{preemption_count}.json", meta_data)


class _Run:
    """One process's share of a trial."""

    def __init__(
        self,
        trial: Trial,
        state: TrialState,
        checkpoint_path: Path,
        checkpoint_period_seconds: float,
        hooks: Hooks,
    ) -> None:
        self.facts = registry.facts(trial.workload)
        self.last_step = last_step(trial)
        self.ignore_targets = trial.ignore_targets
        self.state = state
        self.checkpoint_path = checkpoint_path
        self.checkpoint_period_seconds = checkpoint_period_seconds
        self.hooks = hooks
        self.started_at = self.checkpointed_at = now()
        update_params = inspect.signature(state.submission.update_params)
        self.needs_train_state = "train_state" in update_params.parameters

    def train(self) -> str:
        """Steps until the trial ends; returns why: targets, time, submission or steps."""
        state, train_state = self.state, self.state.train_state
        (train_state["last_step_end_time"],) = ranks.maximum(time.time())
        while True:
            keys = prng.split(prng.fold_in(state.loop_rng, state.global_step), 4)
            data_rng, update_rng, prepare_rng, eval_rng = keys
            ended_by_submission, stop_requested = self.step(data_rng, update_rng)
            train_state["training_complete"] = (
                ended_by_submission or state.global_step >= self.last_step
            )
            evaluation_due = state.global_step % self.facts.eval_period_steps == 0
            if train_state["training_complete"] or evaluation_due:
                self.prepare_for_eval(prepare_rng)
                if state.clock.wall >= self.facts.max_runtime_seconds:
                    train_state["is_time_remaining"] = False
                    return "time"
                self.evaluate(eval_rng)
                goals = ("validation_goal_reached", "test_goal_reached")
                if all(train_state[goal] for goal in goals) and not self.ignore_targets:
                    return "targets"
                if train_state["training_complete"]:
                    return "submission" if ended_by_submission else "steps"
                since_last, train_state["last_step_end_time"] = ranks.maximum(
                    now() - self.checkpointed_at, time.time()
                )
                if since_last >= self.checkpoint_period_seconds:
                    self.save_checkpoint()
            if stop_requested:
                self.save_checkpoint()
                raise Stopped

    def step(self, data_rng: prng.Key, update_rng: prng.Key) -> tuple[bool, bool]:
        """One timed step.

        Returns:
          Whether the submission declared the training complete, and whether any rank is to stop.
        """
        state, complete = self.state, False
        submission, optional = state.submission, {}
        if self.needs_train_state:
            optional["train_state"] = MappingProxyType(state.train_state)
        with state.clock.running():
            batch = submission.data_selection(
                state.workload,
                state.input_queue,
                state.optimizer_state,
                state.model,
                state.model_state,
                state.hyperparameters,
                state.global_step,
                data_rng,
            )
            try:
                state.call(submission.update_params, batch=batch, rng=update_rng, **optional)
            except spec.TrainingCompleteError:
                complete = True
        state.global_step += 1
        stop, state.train_state["last_step_end_time"] = state.clock.add_slowest(
            self.hooks.stop_requested(), time.time()
        )
        state.train_state["accumulated_submission_time"] = state.clock.wall
        return complete, stop > 0

    def prepare_for_eval(self, rng: prng.Key) -> None:
        """The submission's timed preparation, if it has one."""
        state = self.state
        if not hasattr(state.submission, "prepare_for_eval"):
            return
        with state.clock.running():
            state.call(state.submission.prepare_for_eval, rng=rng)
        state.clock.add_slowest()
        state.train_state["accumulated_submission_time"] = state.clock.wall

    def evaluate(self, rng: prng.Key) -> None:
        """Evaluates all splits on rank 0, tells the others, and writes the logs; off the clock."""
        state, train_state = self.state, self.state.train_state
        metrics, train_state["last_eval_time"] = ranks.from_first(
            lambda: (self.measure(rng), time.time())
        )
        for goal, reached in (
            ("validation_goal_reached", state.workload.has_reached_validation_target),
            ("test_goal_reached", state.workload.has_reached_test_target),
        ):
            train_state[goal] = bool(reached(metrics)) or train_state[goal]
        train_state["accumulated_eval_time"] = metrics["accumulated_eval_time"]
        state.eval_results.append((state.global_step, metrics))
        start = now()
        if replicas.rank() == 0:
            state.log.append_scalar_metrics(metrics, state.global_step, is_eval=True)
            state.log.write()
            self.hooks.evaluated(state.global_step, metrics)
        self.count_logging(start)

    def measure(self, rng: prng.Key) -> dict[str, float]:
        """The metrics of all splits, and the times so far, this evaluation's included."""
        state, train_state = self.state, self.state.train_state
        start = now()
        metrics: dict[str, Any] = state.workload.eval_model(
            state.workload.eval_batch_size,
            replicas.bare(state.model),
            state.model_state,
            rng,
            "",
            None,
            state.global_step,
        )
        spent = now() - start
        return {name: float(value) for name, value in metrics.items()} | {
            "score": state.clock.wall,
            "total_duration": self.seconds(),
            "accumulated_submission_time": state.clock.wall,
            "accumulated_submission_cpu_time": state.clock.cpu,
            "accumulated_eval_time": train_state["accumulated_eval_time"] + spent,
            "accumulated_logging_time": train_state["accumulated_logging_time"],
        }

    def seconds(self) -> float:
        """Duration of the trial over all processes that ran it, without initialisation."""
        return self.state.earlier_seconds + now() - self.started_at

    def save_checkpoint(self) -> None:
        start = now()
        snapshot = self.state.snapshot(self.seconds())
        if snapshot is not None:
            checkpoint.save(self.checkpoint_path, snapshot)
        self.checkpointed_at = now()
        self.count_logging(start)

    def count_logging(self, start: float) -> None:
        """Counts the time from `start` to now as logging, that of the slowest rank."""
        (spent,) = ranks.maximum(now() - start)
        self.state.train_state["accumulated_logging_time"] += spent


def last_step(trial: Trial) -> int:
    """The step after which the trial ends at the latest."""
    step_hint = registry.facts(trial.workload).step_hint
    return step_hint if trial.max_steps is None else min(trial.max_steps, step_hint)
