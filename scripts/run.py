"""Runs one timed trial of an entry on a workload.

    python -m scripts.run --workload=mnist_vit --entry=shampoo --output=runs/example

A finished trial is left as it is; an interrupted one is resumed from its checkpoint.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from absl import flags

from common import cli, files, progress
from common.cli import UserError
from scripts import entries, environment, processes, search_space
from scripts import trial as trials
from scripts.metrics_log import read_evaluations
from scripts.trial import Trial
from workloads import registry

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("workload", None, "workload to train", required=True)
    flags.DEFINE_string("entry", None, "folder of submission/entries to train with", required=True)
    flags.DEFINE_integer("study", 0, "index of the study, from 0; it enters the seed")
    flags.DEFINE_integer("trial", 1, "index into the search space, from 1")
    flags.DEFINE_string("output", None, "folder for the logs", required=True)
    flags.DEFINE_integer("seed", 0, "base seed")
    flags.DEFINE_string("search_space", None, "JSON file; default: the entry's own")
    flags.DEFINE_integer("max_steps", None, "stop after so many steps, if before the step hint")
    flags.DEFINE_bool("ignore_targets", False, "train on after both targets are met")
    flags.DEFINE_integer("threads", 1, "PyTorch threads", lower_bound=1)
    flags.DEFINE_float(
        "checkpoint_period_seconds", 15.0, "least time between two checkpoints", lower_bound=0.0
    )
    flags.DEFINE_bool("overwrite", False, "start over a trial that has files already")
    flags.DEFINE_list("cores", None, "run on these cores only")
    flags.DEFINE_integer("parent_pid", None, "end when this process, the parent, ends")


def main(argv: Sequence[str]) -> int:
    """Runs the trial that the flags describe."""
    del argv
    if FLAGS.parent_pid is not None:
        processes.die_with(FLAGS.parent_pid)
    if FLAGS.cores:
        processes.pin_to_cores(_cores(FLAGS.cores))
    trial = _trial()
    if caveat := registry.caveat(trial.workload):
        print(f"warning: {caveat}", file=sys.stderr)
    directory = files.make_directory(trial.directory(Path(FLAGS.output)))
    with trials.locked(directory, "this trial"):
        if FLAGS.overwrite:
            trials.clear(directory)
        status = trials.finished(trial, directory)
        if status is None:
            status = _run(trial, directory)
            done = "complete"
        else:
            if status["reason"] != "time":  # time may be up before the first evaluation
                read_evaluations(directory)
            (directory / trials.CHECKPOINT).unlink(missing_ok=True)
            done = "already complete"
    print(
        f"{trial.name}: {done} ({status['reason']}) at step {status['global_step']} "
        f"after {status['accumulated_submission_time']:.1f} s; logs in {directory}"
    )
    return 0


def _cores(given: Sequence[str]) -> list[int]:
    try:
        return [int(core) for core in given]
    except ValueError as error:
        raise UserError(f"--cores={','.join(given)}: give whole numbers") from error


def _trial() -> Trial:
    registry.facts(FLAGS.workload)
    own_space = entries.search_space_file(FLAGS.entry)
    space = Path(FLAGS.search_space or own_space)
    return Trial(
        workload=FLAGS.workload,
        entry=FLAGS.entry,
        study=FLAGS.study,
        trial=FLAGS.trial,
        hyperparameters=search_space.point(space, FLAGS.trial),
        seed=FLAGS.seed,
        max_steps=FLAGS.max_steps,
        ignore_targets=FLAGS.ignore_targets,
        search_space=str(space),
    )


def _run(trial: Trial, directory: Path) -> dict[str, Any]:
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(FLAGS.threads)
    import torch

    from scripts import runner

    torch.set_num_threads(FLAGS.threads)
    for leftover in directory.glob(".*.*"):
        leftover.unlink()
    facts = registry.facts(trial.workload)
    stop = _StopSignals()
    with progress.bar(runner.last_step(trial), trial.name, "step") as bar:

        def started(preemption_count: int, step: int) -> None:
            bar.n = bar.initial = step
            files.write_json(directory / trials.HPARAMS, dict(trial.hyperparameters))
            files.write_json(
                directory / f"flags_{preemption_count}.json",
                _flags_given() | trial.settings(),
            )
            files.write_json(
                directory / f"meta_data_{preemption_count}.json", _meta_data(trial, torch)
            )

        def evaluated(step: int, metrics: dict[str, Any]) -> None:
            name = f"validation/{facts.metric}"
            bar.set_postfix_str(f"{name} {metrics[name]:.4g}", refresh=False)
            bar.update(step - bar.n)

        hooks = runner.Hooks(started, evaluated, stop.requested)
        try:
            return runner.run_trial(trial, directory, FLAGS.checkpoint_period_seconds, hooks)
        except runner.Stopped:
            pass
    print(f"stopped; run the same command again to resume {trial.name}", file=sys.stderr)
    raise SystemExit(128 + stop.signal)


def _flags_given() -> dict[str, Any]:
    module = FLAGS.find_module_defining_flag("workload")
    return {flag.name: flag.value for flag in FLAGS.get_key_flags_for_module(module)}


def _meta_data(trial: Trial, torch: Any) -> dict[str, Any]:
    facts = vars(registry.facts(trial.workload))
    cuda = torch.cuda.is_available()
    return {
        **{f"workload.{name}": value for name, value in facts.items()},
        **environment.describe(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "cores": environment.available_cores(),
        "rng_seed": trial.rng_seed,
    }


class _StopSignals:
    """Turns the first SIGINT or SIGTERM into a request; a second one acts as it always does."""

    def __init__(self) -> None:
        self.signal = 0
        self._previous = {
            signum: signal.signal(signum, self._note) for signum in (signal.SIGINT, signal.SIGTERM)
        }

    def _note(self, signum: int, frame: FrameType | None) -> None:
        del frame
        self.signal = signum
        for each, handler in self._previous.items():
            signal.signal(each, handler)

    def requested(self) -> bool:
        return self.signal != 0


if __name__ == "__main__":
    define_flags()
    cli.run(main)
