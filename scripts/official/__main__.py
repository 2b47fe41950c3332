"""Runs an entry on an official workload, under the benchmark's own runner.

    python -m scripts.official --workload=imagenet_resnet --entry=shampoo --trial=1 --data_dir=/data

One trial, or all points of the entry one after another. What is complete is left as it is, and what
was interrupted goes on from its last evaluation: give the same command again. --dry_run prints the
commands that would run.
"""

from collections.abc import Sequence

from absl import flags

from common import cli
from scripts import study
from scripts.official import suite

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("workload", None, "official workload to train", required=True)
    flags.DEFINE_string("entry", None, "of submission/entries, or a packaged folder", required=True)
    flags.DEFINE_integer("study", 0, "index of the study; it enters the seed", lower_bound=0)
    flags.DEFINE_integer("trial", None, "point to run, from 1 (default: all)", lower_bound=1)
    flags.DEFINE_string("experiment_dir", "runs/official", "folder for the logs")
    flags.DEFINE_integer("seed", 0, "base seed", lower_bound=0)
    flags.DEFINE_bool("dry_run", False, "print the commands; run and create nothing")
    suite.define_flags()
    flags.adopt_module_key_flags(suite)


def main(argv: Sequence[str]) -> int:
    """Runs what the flags describe; 1 if a trial failed."""
    del argv
    numbers = None if FLAGS.trial is None else [FLAGS.trial]
    planned = suite.trials_from_flags(
        [FLAGS.workload], [FLAGS.entry], [FLAGS.study], numbers, FLAGS.seed
    )
    return study.run_official(planned, FLAGS.experiment_dir)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
