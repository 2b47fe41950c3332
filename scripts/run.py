"""Runs one timed trial of an entry on a workload.

    python -m scripts.run --workload=mnist_vit --entry=shampoo --output=runs/example

A finished trial is left as it is; an interrupted one is resumed from its checkpoint. With --nproc=N
it trains in N processes, which share each batch: on the CPU, or on N GPUs. `torchrun --standalone
--nproc_per_node=N -m scripts.run ...` does the same.
"""

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import cli, files, progress
from scripts.local import entries, environment, resumable
from scripts.local import trial as trials
from scripts.local.trial import Trial
from workloads import registry
from workloads.official.datasets import FRAMEWORKS

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("workload", None, "workload to train", required=True)
    flags.DEFINE_string(
        "entry", None, "folder of submission/entries to train with, or a path", required=True
    )
    flags.DEFINE_enum("framework", None, FRAMEWORKS, "of the entry (default: what it says)")
    flags.DEFINE_integer("study", 0, "index of the study, from 0; it enters the seed")
    flags.DEFINE_integer("trial", 1, "index into the search space, from 1")
    flags.DEFINE_string("output", None, "folder for the logs", required=True)
    flags.DEFINE_integer("seed", 0, "base seed")
    flags.DEFINE_string(
        "search_space",
        None,
        "JSON file; default: workloads/standin/points/ENTRY.json",
    )
    flags.DEFINE_integer("max_steps", None, "stop after so many steps, if before the step hint")
    flags.DEFINE_bool("ignore_targets", False, "train on after both targets are met")
    flags.DEFINE_float(
        "checkpoint_period_seconds", 15.0, "least time between two checkpoints", lower_bound=0.0
    )
    resumable.define_flags()
    flags.adopt_module_key_flags(resumable)  # so that --help lists them


def main(argv: Sequence[str]) -> int:
    """Runs the trial that the flags describe; the exit code."""
    del argv
    resumable.apply_process_flags()
    trial = _trial()
    place = resumable.find_place()
    if place.is_main_process and (caveat := registry.caveat(trial.workload)):
        print(f"warning: {caveat}", file=sys.stderr)
    directory = files.make_directory(trial.directory(Path(FLAGS.output)))
    cores = environment.available_cores()

    def finished() -> dict[str, Any] | None:
        status = trials.finished(trial, directory)
        if status is not None:
            (directory / trials.CHECKPOINT).unlink(missing_ok=True)
        return status

    def train(rank: int, stop_requested: Callable[[], bool]) -> dict[str, Any]:
        return _train(trial, directory, cores, rank, stop_requested)

    def summary(status: dict[str, Any]) -> str:
        return (
            f" ({status['reason']}) at step {status['global_step']} "
            f"after {status['accumulated_submission_time']:.1f} s; logs in {directory}"
        )

    return resumable.run(place, resumable.Work(trial.name, directory, finished, train, summary))


def _trial() -> Trial:
    registry.check_trains_here(FLAGS.workload)
    entry = entries.named(FLAGS.entry)
    frameworks = entries.frameworks([entry])
    entries.check_frameworks(frameworks, FLAGS.framework)
    space = Path(FLAGS.search_space or entries.standin_points_file(entry))
    return Trial(
        workload=FLAGS.workload,
        entry=entry,
        study=FLAGS.study,
        trial=FLAGS.trial,
        hyperparameters=entries.point(entry, space, FLAGS.trial),
        seed=FLAGS.seed,
        max_steps=FLAGS.max_steps,
        ignore_targets=FLAGS.ignore_targets,
        search_space=str(space),
        framework=frameworks[entry],
    )


def _train(
    trial: Trial,
    directory: Path,
    cores: Sequence[int],
    rank: int,
    stop_requested: Callable[[], bool],
) -> dict[str, Any]:
    from scripts.local import runner

    metric = f"validation/{registry.facts(trial.workload).metric}"
    bar: Any = contextlib.nullcontext()
    if rank == 0:
        bar = progress.bar(runner.last_step(trial), trial.name, "step")

    def started(preemption_count: int, step: int) -> None:
        bar.n = bar.initial = step
        flags_given = resumable.flags_beside("workload")
        runner.write_settings(trial, directory, preemption_count, flags_given, cores)

    def evaluated(step: int, metrics: dict[str, Any]) -> None:
        bar.set_postfix_str(f"{metric} {metrics[metric]:.4g}", refresh=False)
        bar.update(step - bar.n)

    with bar:
        hooks = runner.Hooks(started, evaluated, stop_requested)
        return runner.run_trial(trial, directory, FLAGS.checkpoint_period_seconds, hooks)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
