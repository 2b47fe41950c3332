"""Trains ResNet-50 on ImageNet by one of the two recipes, or another in a JSON file.

    python -m scripts.imagenet --config=shampoo --data_dir=DATA --output=runs/imagenet --nproc=8
    python -m scripts.imagenet --config=sgd --smoke --output=runs/smoke   # a minute, on a CPU

The same command resumes a run that was stopped, and leaves one alone that has finished.
`torchrun --standalone --nproc_per_node=8 -m scripts.imagenet ...` does the same as --nproc=8.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from common import cli, files, progress
from common.cli import UserError
from scripts.local import environment, resumable
from scripts.local import trial as trials

if TYPE_CHECKING:
    from scripts.imagenet.train import Experiment

FLAGS = flags.FLAGS
SETTINGS = "config.json"


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("config", None, "shampoo, sgd, or a JSON file", required=True)
    flags.DEFINE_string("output", None, "folder for the runs' folders", required=True)
    flags.DEFINE_enum("data", "imagenet", ["imagenet", "generated"], "which images")
    flags.DEFINE_string("data_dir", None, "folder with ImageNet's train and val, one per class")
    flags.DEFINE_bool("smoke", False, "a small network on few generated images, for a CPU")
    flags.DEFINE_integer("generated_images", 320, "how many, if generated", lower_bound=1)
    flags.DEFINE_integer(
        "workers", None, "processes that load data, for each rank (default: its share of the cores)"
    )
    flags.DEFINE_integer("seed", 0, "of weights, order and augmentation", lower_bound=0)
    flags.DEFINE_float(
        "checkpoint_period_minutes", 15.0, "between checkpoints within an epoch", lower_bound=0.0
    )
    resumable.define_flags()
    flags.adopt_module_key_flags(resumable)


def main(argv: Sequence[str]) -> int:
    """Runs the experiment that the flags describe; the exit code."""
    del argv
    resumable.apply_process_flags()
    place = resumable.find_place()
    experiment = _experiment()
    directory = files.make_directory(experiment.directory(Path(FLAGS.output)))

    def train(rank: int, stop_requested: Callable[[], bool]) -> dict[str, Any]:
        return _train(experiment, directory, rank, stop_requested)

    def summary(status: dict[str, Any]) -> str:
        return (
            f", top-1 accuracy {status['validation_accuracy']:.4f} after {status['epochs']} epochs "
            f"and {status['seconds']:,.0f} s of training; logs in {directory}"
        )

    name = f"{experiment.name}, seed {experiment.seed}"
    finished = functools.partial(_finished, experiment, directory)
    return resumable.run(place, resumable.Work(name, directory, finished, train, summary))


def _experiment() -> "Experiment":
    generated = FLAGS.smoke or FLAGS.data == "generated"
    if generated and FLAGS.data_dir:
        raise UserError(f"--data_dir={FLAGS.data_dir}: generated images take none")
    if not generated and not FLAGS.data_dir:
        raise UserError("--data_dir is missing: where ImageNet lies; or give --data=generated")
    # After `resumable.apply_process_flags`, since these import torch.
    from scripts.imagenet import config as configs
    from scripts.imagenet.data import Source
    from scripts.imagenet.train import Experiment

    path = configs.find(FLAGS.config)
    config = configs.read(path)
    workers = FLAGS.workers
    if FLAGS.smoke:
        config, workers = config.shrunk(), workers or 0
    elif workers is None:
        workers = max(len(environment.available_cores()) // FLAGS.nproc - 1, 0)
    folder = None if generated else Path(FLAGS.data_dir)
    source = Source(folder, FLAGS.generated_images, workers)
    return Experiment(path.stem, config, source, FLAGS.seed)


def _finished(experiment: "Experiment", directory: Path) -> dict[str, Any] | None:
    """The status of this very run if it has ended; UserError if the folder holds another."""
    path = directory / SETTINGS
    if path.exists():
        remedy = "choose another --output, or --overwrite the run"
        recorded = files.read_json(path)
        trials.require_same(str(path), recorded, experiment.settings(), remedy=remedy)
    path = directory / trials.STATUS
    if not path.exists():
        return None
    status = files.read_json(path)
    known = {"status", "epochs", "step", "seconds", "validation_accuracy"}
    if not isinstance(status, dict) or not known <= set(status):
        raise UserError(f"{path} does not say that the run is complete; delete it to run again")
    return status


def _train(
    experiment: "Experiment", directory: Path, rank: int, stop_requested: Callable[[], bool]
) -> dict[str, Any]:
    """Trains on this rank; rank 0 writes the settings at the start and shows a bar of epochs."""
    import torch

    from scripts.imagenet import train
    from scripts.local import runner

    bar: Any = contextlib.nullcontext()
    if rank == 0:
        bar = progress.bar(experiment.config.epochs, experiment.name, "epoch")

    def started(preemptions: int, step: int) -> None:
        del step
        files.write_json(directory / SETTINGS, experiment.settings())
        meta_data = {
            **environment.describe(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "nproc": FLAGS.nproc,
            "threads": torch.get_num_threads(),
            "data_dir": FLAGS.data_dir,
        }
        files.write_json(directory / f"meta_data_{preemptions}.json", meta_data)

    def evaluated(step: int, row: dict[str, Any]) -> None:
        del step
        bar.set_postfix_str(f"top-1 {row['validation_accuracy']:.4f}", refresh=False)
        bar.update(row["epoch"] - bar.n)

    with bar:
        hooks = runner.Hooks(started, evaluated, stop_requested)
        return train.run(experiment, directory, 60 * FLAGS.checkpoint_period_minutes, hooks)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
