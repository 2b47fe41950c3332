"""Runs workloads x entries x studies x trials, in parallel, resuming what was interrupted.

    python -m scripts.study --entries=shampoo,adamw --studies=3 --output=runs/example

Each trial is a process of its own (`python -m scripts.run`), or --nproc of them that share its
batches, pinned to its own cores. A finished trial has a status.json and is never run again.

With --suite=official each runs under the benchmark's own runner, one after another on all GPUs, or
as a Slurm job (`scripts.official.suite`).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from absl import flags

from common import cli
from common.cli import UserError
from scripts.local import entries, studies
from scripts.local import plan as plans
from scripts.local.trial import MOST_STUDIES
from scripts.official import suite
from scripts.official.trial import OfficialTrial
from workloads import registry, rulesets, search_space

FLAGS = flags.FLAGS
_FOR_STANDINS = ("jobs", "nproc", "threads", "checkpoint_period_seconds", "best_from")


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_list("workloads", registry.names("standin"), "workloads to train")
    flags.DEFINE_list("entries", None, "folders of submission/entries, or paths", required=True)
    flags.DEFINE_string("output", None, "folder for the logs", required=True)
    studies.define_machine_flags()
    flags.adopt_module_key_flags(studies)  # so that --help lists them
    flags.DEFINE_enum("suite", "standin", ["standin", "official"], "which workloads there are")
    suite.define_flags()
    flags.adopt_module_key_flags(suite)
    flags.DEFINE_integer("studies", 3, "repeats with other seeds", 1, MOST_STUDIES)
    flags.DEFINE_integer(
        "first_study", 0, "index of the first one; it enters the seeds", lower_bound=0
    )
    flags.DEFINE_list(
        "trials", ["all"], "`all` points of the search spaces, `best`, or numbers such as 1,2"
    )
    flags.DEFINE_string("best_from", None, "points.csv of an earlier report, for --trials=best")


def main(argv: Sequence[str]) -> int:
    """Runs the study that the flags describe; 1 if a trial failed."""
    del argv
    numbers = range(FLAGS.first_study, FLAGS.first_study + FLAGS.studies)
    if FLAGS.suite == "official":
        return _main_official(numbers)
    names = [flag.name for flag in FLAGS.get_key_flags_for_module(suite)]
    _refuse((name for name in names if name != "framework"), "official")
    workloads, chosen = studies.workloads_from_flags(), studies.entries_from_flags()
    frameworks = entries.frameworks(chosen)
    entries.check_frameworks(frameworks, FLAGS.framework)
    points = {entry: entries.points(entry) for entry in chosen}
    choice = _choice(workloads, points)
    planned = plans.trials_of(numbers, points, choice, FLAGS.seed, frameworks=frameworks)
    studies.print_caveats(workloads)
    output = Path(FLAGS.output)
    if FLAGS.dry_run:
        studies.print_plan(planned, output)
        return 0
    failures = studies.run_study(planned, {}, output, studies.machine_from_flags())
    return studies.report(failures, len(planned), output)


def _main_official(numbers: Sequence[int]) -> int:
    _refuse(_FOR_STANDINS, "standin")
    workloads = rulesets.ruleset(suite.version()).base_workloads
    if FLAGS["workloads"].present:
        workloads = tuple(dict.fromkeys(FLAGS.workloads))
    chosen = None if FLAGS.trials == ["all"] else _numbers("all, or numbers from 1")
    planned = suite.trials_from_flags(workloads, FLAGS.entries, numbers, chosen, FLAGS.seed)
    return run_official(planned, FLAGS.output)


def run_official(planned: Sequence[OfficialTrial], output: str) -> int:
    """Plans, submits or runs official trials as the flags say; 1 if one failed here."""
    node = suite.node_from_flags(output)
    if FLAGS.dry_run:
        suite.print_plan(planned, node)
        return 0
    if FLAGS.slurm:
        suite.submit(planned, node)
        return 0
    return studies.report(suite.run(planned, node), len(planned), node.output)


def _refuse(names: Iterable[str], other: str) -> None:
    """UserError if a flag is given that has a meaning for the other suite only."""
    for name in names:
        if FLAGS[name].present:
            raise UserError(f"--{name} is for --suite={other}")


def _numbers(allowed: str) -> list[int]:
    given = FLAGS.trials
    if not given or not all(number.isdecimal() for number in given):
        raise UserError(f"--trials={','.join(given)}: allowed: {allowed}")
    return [int(number) for number in given]


def _choice(
    workloads: Sequence[str], points: Mapping[str, Sequence[search_space.Point]]
) -> plans.Choice:
    given = FLAGS.trials
    if given == ["best"]:
        if FLAGS.best_from is None:
            raise UserError("--trials=best needs --best_from=points.csv of a report")
        return plans.best_trials(Path(FLAGS.best_from), points, workloads)
    if given != ["all"]:
        chosen = _numbers("all, best, or numbers from 1")
        return dict.fromkeys(((e, w) for w in workloads for e in points), chosen)
    return plans.all_points(workloads, points)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
