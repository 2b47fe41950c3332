"""A trial between two steps: how it starts, and how it is saved and restored."""

import dataclasses
import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Any

import torch

from common.cli import UserError
from scripts.local import entries
from scripts.local.clock import SubmissionClock
from scripts.local.metrics_log import MetricsLog
from scripts.local.trial import Trial
from submission.algoperf_api import spec
from submission.algoperf_api.pytorch import consolidate
from workloads import prng, registry, search_space
from workloads.standin import replicas


@dataclasses.dataclass
class TrialState:
    """Everything that changes while a trial runs, and what it runs on.

    Attributes:
      trial: the trial that this is the state of.
      submission: an object with the API's functions, such as an entry's module.
      loop_rng: the key from which each step's four keys are folded.
      train_state: what a submission may read of the run, with AlgoPerf's keys; equal on all ranks.
      eval_results: (global_step, metrics) of each evaluation so far.
      earlier_seconds: total duration of the processes that ran this trial before.
    """

    trial: Trial
    workload: spec.Workload
    submission: Any
    hyperparameters: Any
    input_queue: Iterator[Any]
    model: Any
    model_state: Any
    optimizer_state: Any
    loop_rng: prng.Key
    log: MetricsLog
    clock: SubmissionClock
    train_state: dict[str, Any]
    eval_results: list[tuple[int, dict[str, Any]]]
    global_step: int = 0
    preemption_count: int = 0
    earlier_seconds: float = 0.0

    def call(self, function: Callable[..., Any], **more: Any) -> None:
        """Calls a function of the API with what all get, and takes over what it returns."""
        self.optimizer_state, self.model, self.model_state = function(
            workload=self.workload,
            current_param_container=self.model,
            current_params_types=self.workload.model_params_types,
            model_state=self.model_state,
            hyperparameters=self.hyperparameters,
            loss_type=self.workload.loss_type,
            optimizer_state=self.optimizer_state,
            eval_results=self.eval_results,
            global_step=self.global_step,
            **more,
        )

    def snapshot(self, seconds: float) -> dict[str, Any] | None:
        """On rank 0 what `restore` needs on every rank, elsewhere None; a collective.

        Plain values and tensors. `seconds` is the duration so far.
        """
        consolidate(self.optimizer_state)
        if replicas.rank() != 0:
            return None
        return {
            **identity(self.trial),
            **self._saved_parts(),
            "input_queue": self.input_queue.state_dict(),  # type: ignore[attr-defined]
            "rng": _rng_state(),
            "log": self.log.state_dict(),
            "clock": {"wall": self.clock.wall, "cpu": self.clock.cpu},
            "train_state": dict(self.train_state),
            "eval_results": [[step, dict(metrics)] for step, metrics in self.eval_results],
            "global_step": self.global_step,
            "preemption_count": self.preemption_count,
            "seconds": seconds,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Continues where `snapshot` was taken; raises whatever a misfit part raises."""
        self._restore_parts(snapshot)
        self.input_queue.load_state_dict(snapshot["input_queue"])  # type: ignore[attr-defined]
        self.log.load_state_dict(snapshot["log"])
        self.clock.wall = snapshot["clock"]["wall"]
        self.clock.cpu = snapshot["clock"]["cpu"]
        self.train_state = snapshot["train_state"]
        self.eval_results = [(step, metrics) for step, metrics in snapshot["eval_results"]]
        self.global_step = snapshot["global_step"]
        self.preemption_count = self.log.preemption_count = snapshot["preemption_count"] + 1
        self.earlier_seconds = snapshot["seconds"]
        rng = snapshot["rng"]
        torch.set_rng_state(rng["torch"])
        if "cuda" in rng:
            torch.cuda.set_rng_state(rng["cuda"])

    def _saved_parts(self) -> dict[str, Any]:
        """What training moves, as plain values and tensors."""
        if self.trial.framework == "jax":
            from scripts.local import jax_state

            parts = {"model": self.model, "model_state": self.model_state}
            parts["optimizer_state"] = self.optimizer_state[0]
            return {name: jax_state.saved(part) for name, part in parts.items()}
        return {
            "model": replicas.bare(self.model).state_dict(),
            "model_state": self.model_state,
            "optimizer_state": {
                name: part.state_dict() for name, part in self.optimizer_state.items()
            },
        }

    def _restore_parts(self, snapshot: dict[str, Any]) -> None:
        if self.trial.framework == "jax":
            from scripts.local import jax_state

            self.model = jax_state.restored(snapshot["model"], self.model)
            self.model_state = jax_state.restored(snapshot["model_state"], self.model_state)
            state, training = self.optimizer_state
            state = jax_state.restored(snapshot["optimizer_state"], state)
            self.optimizer_state = state, training
            return
        replicas.bare(self.model).load_state_dict(snapshot["model"])
        self.model_state = snapshot["model_state"]
        saved = snapshot["optimizer_state"]
        if set(saved) != set(self.optimizer_state):
            raise ValueError(f"optimizer state {sorted(saved)}, not {sorted(self.optimizer_state)}")
        for name, part in self.optimizer_state.items():
            part.load_state_dict(saved[name])


def _rng_state() -> dict[str, torch.Tensor]:
    """On the CPU and on this rank's GPU; ranks have the same, unless an entry draws otherwise."""
    state = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def identity(trial: Trial) -> dict[str, dict[str, Any]]:
    """What a snapshot must have been made with, for this process to go on along its trajectory."""
    process = {
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "nproc": replicas.count(),
    }
    if trial.framework == "jax":
        process["jax"] = importlib.metadata.version("jax")
    return {
        "settings": trial.settings(),
        "hyperparameters": dict(trial.hyperparameters),
        "process": process,
    }


def start(trial: Trial, log: MetricsLog, load: Callable[[str], Any] = entries.load) -> TrialState:
    """Builds data, model and optimizer of a trial that stands before its first step.

    Args:
      load: from the trial's `entry` to the functions of the API.

    UserError if the entry cannot use the trial's point, or the ranks not its batch size, or the
    workload or the ranks not the entry's framework.
    """
    if trial.framework == "jax" and replicas.count() > 1:
        raise UserError(f"--nproc={replicas.count()}: an entry in JAX trains in one process")
    workload = registry.load(trial.workload, trial.framework)
    submission = load(trial.entry)
    hyperparameters = search_space.as_namedtuple(trial.hyperparameters)
    data_rng, optimizer_rng, model_rng, loop_rng = prng.split(prng.key(trial.rng_seed), 4)
    torch.manual_seed(prng.seed(model_rng))
    input_queue = workload._build_input_queue(
        data_rng,
        "train",
        data_dir="",
        global_batch_size=submission.get_batch_size(trial.workload),
    )
    model, model_state = workload.init_model_fn(model_rng)
    workload.attach_metrics_logger(log if replicas.rank() == 0 else None)
    try:
        optimizer_state = submission.init_optimizer_state(
            workload, model, model_state, hyperparameters, optimizer_rng
        )
    except (AttributeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, AttributeError) and error.obj is hyperparameters:
            given, missing = trial.hyperparameters, str(error.name)
            reason = f"it lacks {missing}; it has {', '.join(given)}"
        raise UserError(
            f"{trial.search_space}: entry {trial.entry!r} cannot use the point of "
            f"trial {trial.trial}: {reason}"
        ) from error
    # Entries draw differently while they initialise; their dropout masks shall still be paired.
    torch.manual_seed(prng.seed(loop_rng))
    return TrialState(
        trial=trial,
        workload=workload,
        submission=submission,
        hyperparameters=hyperparameters,
        input_queue=input_queue,
        model=model,
        model_state=model_state,
        optimizer_state=optimizer_state,
        loop_rng=loop_rng,
        log=log,
        clock=SubmissionClock(),
        train_state={
            "validation_goal_reached": False,
            "test_goal_reached": False,
            "is_time_remaining": True,
            "last_eval_time": 0.0,
            "training_complete": False,
            "accumulated_submission_time": 0.0,
            "accumulated_eval_time": 0.0,
            "accumulated_logging_time": 0.0,
            "last_step_end_time": None,
        },
        eval_results=[],
    )
