"""Trains ResNet-50 on ImageNet by one of the two recipes, or another in a JSON file.

    python -m scripts.imagenet --config=shampoo --data_dir=DATA --output=runs/imagenet --nproc=8
    python -m scripts.imagenet --config=sgd --smoke --output=runs/smoke   # seconds, on a CPU

The same command resumes a run that was stopped, and leaves one alone that has finished.
`torchrun --standalone --nproc_per_node=8 -m scripts.imagenet ...` does the same as --nproc=8.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import cli, files
from common.cli import UserError
from scripts.local import environment, resumable
from scripts.local import trial as trials

FLAGS = flags.FLAGS
# Of a finished run's status.
_SHOWN = ("validation_accuracy", "seconds")


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("config", None, "shampoo, sgd, or a JSON file", required=True)
    flags.DEFINE_string("output", None, "folder for the runs' folders", required=True)
    flags.DEFINE_string("data_dir", None, "folder with ImageNet's train and val, one per class")
    flags.DEFINE_bool("smoke", False, "a small network on few generated images, for a CPU")
    flags.DEFINE_integer("workers", None, "loaders of data for each rank (default: by the cores)")
    flags.DEFINE_integer("seed", 0, "of weights, order and augmentation", lower_bound=0)
    resumable.define_flags()
    flags.adopt_module_key_flags(resumable)


def main(argv: Sequence[str]) -> int:
    """Runs the experiment that the flags describe; the exit code."""
    del argv
    resumable.apply_process_flags()
    place = resumable.find_place()
    # After `apply_process_flags`, since these import torch.
    from scripts.imagenet import config as configs
    from scripts.imagenet.train import SETTINGS, Experiment, run

    if FLAGS.smoke == bool(FLAGS.data_dir):
        raise UserError("--data_dir: say where ImageNet lies, or give --smoke instead")
    config = configs.read(FLAGS.config)
    config = config.shrunk() if FLAGS.smoke else config
    source = Path(FLAGS.data_dir) if FLAGS.data_dir else None
    workers = FLAGS.workers
    if workers is None:
        workers = max(len(environment.available_cores()) // FLAGS.nproc - 1, 0)
    experiment = Experiment(Path(FLAGS.config).stem, config, source, workers, FLAGS.seed)

    folder = Path(FLAGS.output) / experiment.name / f"seed_{experiment.seed}"
    directory = files.make_directory(folder)

    def finished() -> dict[str, Any] | None:
        settings, status = directory / SETTINGS, directory / trials.STATUS
        if settings.exists():
            remedy = "choose another --output, or --overwrite the run"
            recorded = files.read_json(settings)
            trials.require_same(str(settings), recorded, experiment.settings(), remedy=remedy)
        if not status.exists():
            return None
        ended = files.read_json(status)
        numbers = [ended.get(name) for name in _SHOWN] if isinstance(ended, dict) else [None]
        if not all(isinstance(number, int | float) for number in numbers):
            raise UserError(f"{status} lacks {' or '.join(_SHOWN)}; delete it to run again")
        return dict(ended)

    def summary(status: dict[str, Any]) -> str:
        accuracy, seconds = (status[name] for name in _SHOWN)
        return f", top-1 accuracy {accuracy:.4f} after {seconds:,.0f} s; logs in {directory}"

    name = f"{experiment.name}, seed {experiment.seed}"
    work = resumable.Work(
        name, directory, finished, lambda _, stop: run(experiment, directory, stop), summary
    )
    return resumable.run(place, work)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
