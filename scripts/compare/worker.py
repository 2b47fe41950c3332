"""Runs one variant on one workload for `scripts.compare`: all its trials, in one process.

One process, because starting Python, torch and the data costs as much as a hundred steps.
"""

import math
import traceback
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from common import cli, files
from common.cli import UserError
from scripts.compare.chain import FAILURE, Chain, is_hopeless
from scripts.compare.plan import Comparison
from scripts.local import processes
from scripts.local import trial as trials
from scripts.local.lock import locked
from scripts.local.trial import Trial

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("comparison", None, "comparison.json of scripts.compare", required=True)
    flags.DEFINE_string("variant", None, "variant to train with", required=True)
    flags.DEFINE_string("workload", None, "workload to train", required=True)
    flags.DEFINE_string("logs", None, "folder of all trials", required=True)
    flags.DEFINE_bool("overwrite", False, "start over trials that have files of other settings")
    processes.define_flags()
    flags.adopt_module_key_flags(processes)  # so that --help lists them


def main(argv: Sequence[str]) -> int:
    """Runs the chain; 1 if a trial failed."""
    del argv
    processes.apply_process_flags()
    comparison = Comparison.from_json(files.read_json(Path(FLAGS.comparison)))
    variant = comparison.variant(FLAGS.variant)
    chain = Chain(comparison, variant, FLAGS.workload, Path(FLAGS.logs), FLAGS.overwrite)

    import torch

    torch.set_num_threads(FLAGS.threads)
    return run(chain)


def run(chain: Chain) -> int:
    """Runs what is left of a chain; 1 if a trial failed. A failed trial does not end it."""
    failed = 0
    while (trial := chain.next_trial()) is not None:
        directory = files.make_directory(trial.directory(chain.logs))
        with locked(directory, "this trial"):
            failure = _run_trial(chain, trial, directory)
        rate = trial.hyperparameters["learning_rate"]
        print(f"{trial.name}, rate {rate:g}: {failure or 'complete'}", flush=True)
        if failure:
            failed += 1
            files.write_json(directory / FAILURE, {"failure": failure})
    return int(failed > 0)


def _run_trial(chain: Chain, trial: Trial, directory: Path) -> str:
    """Trains and evaluates; returns why it failed, or nothing.

    There are no checkpoints: a trial takes seconds, and not every rival's state can be restored.
    """
    from scripts.compare.submission import Evaluations, Submission
    from scripts.local import runner

    facts, leader = chain.facts, chain.leader()
    metric = f"validation/{facts.metric}"

    def hopeless(evaluations: Evaluations) -> bool:
        curve = [(step, values[metric]) for step, values in evaluations]
        return is_hopeless(trial, curve, leader, facts)

    def started(preemption_count: int, step: int) -> None:
        del preemption_count, step
        files.write_json(directory / trials.HPARAMS, dict(trial.hyperparameters))
        files.write_json(directory / trials.FLAGS_GIVEN, trial.settings())

    try:
        hooks, submission = runner.Hooks(started), Submission(hopeless)
        runner.run_trial(trial, directory, math.inf, hooks, lambda name: submission)
    except Exception as error:  # an optimizer may raise anything
        traceback.print_exc()
        line = (str(error).splitlines() or [""])[0]
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        return f"{kind}{line}"
    return ""


if __name__ == "__main__":
    define_flags()
    cli.run(main)
