"""Trials of official workloads: planned from flags, and run one after another.

Each is a process of its own, for several in one run out of memory on some workloads. The points of
a tuning study are drawn here, since the runner shuffles what it draws from ranges without a seed.
"""

import dataclasses
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from common.cli import UserError
from scripts.local import plan as plans
from scripts.local.studies import Failure, Job, print_failures
from scripts.local.trial import LOG
from scripts.official import checks, installation, side_by_side, slurm
from scripts.official.command import Node, command
from scripts.official.entry import RULESETS, OfficialEntry, find_entry
from scripts.official.run import RunnerFailedError, complete, describe
from scripts.official.trial import OfficialTrial
from workloads import registry
from workloads.official import search_spaces
from workloads.official.datasets import FRAMEWORKS
from workloads.official.facts import RULES, VERSIONS
from workloads.search_space import Point

FLAGS = flags.FLAGS
_WORKLOAD_SPACE = "workload"


def define_flags() -> None:
    """Declares flags of the official runner, besides workloads, entries and studies."""
    flags.DEFINE_integer(
        "gpus", None, "that train a trial together (default: the version's); 0: CPU, mnist only", 0
    )
    flags.DEFINE_integer("at_once", 1, "trials at a time, each on --gpus GPUs of its own", 1)
    flags.DEFINE_string("data_dir", "~/data", "root of the data sets, as `make data` makes it")
    flags.DEFINE_enum(
        "version", None, VERSIONS, "of the benchmark, for targets and budgets (default: checkout's)"
    )
    flags.DEFINE_enum("ruleset", None, RULESETS, "of the entries (default: what they say)")
    flags.DEFINE_enum("framework", None, FRAMEWORKS, "of the entries (default: what they say)")
    flags.DEFINE_string(
        "search_space", None, "`workload`: tune on its own ranges; or a JSON file; default: entry's"
    )
    flags.DEFINE_integer("points", 5, "how many points to draw from ranges", lower_bound=1)
    flags.DEFINE_integer("max_global_steps", None, "stop after so many steps", lower_bound=1)
    flags.DEFINE_bool("torch_compile", None, "compile models (default: on GPUs, as the runner)")
    flags.DEFINE_multi_string("runner_flag", [], "one more flag for the runner, such as --profile")
    flags.DEFINE_list("skip_checks", [], f"of {', '.join(checks.NAMES)}; or all")
    slurm.define_flags()
    flags.adopt_module_key_flags(slurm)


def trials_from_flags(
    workloads: Sequence[str],
    given_entries: Sequence[str],
    studies: Sequence[int],
    numbers: Sequence[int] | None,
    seed: int,
) -> list[OfficialTrial]:
    """All trials, ordered by study, workload, trial, entry.

    Args:
      workloads: official ones.
      given_entries: names or paths.
      numbers: of the trials, from 1; None for all points.

    Raises:
      UserError: for an unknown name, or a trial without a point.
    """
    selected = [find_entry(given, FLAGS.ruleset, FLAGS.framework) for given in given_entries]
    entries = {entry.name: entry for entry in selected}
    if len(entries) < len(given_entries):
        remedy = "name=path gives one another name"
        raise UserError(f"--entries={','.join(given_entries)}: two are of the same name; {remedy}")
    compiles = _gpus() > 0 if FLAGS.torch_compile is None else FLAGS.torch_compile
    planned, of_version = [], version()
    for study, workload in itertools.product(studies, workloads):
        registry.official(workload, of_version)
        spaces = {name: _points(entry, workload) for name, entry in entries.items()}
        points = {name: listed for name, (listed, _) in spaces.items()}
        chosen = {
            (name, workload): numbers or range(1, len(listed) + 1)
            for name, listed in points.items()
        }
        limits = {workload: FLAGS.max_global_steps} if FLAGS.max_global_steps else None
        for trial in plans.trials_of([study], points, chosen, seed, limits):
            listed, drawn = spaces[trial.entry]
            planned.append(
                OfficialTrial(
                    trial=trial,
                    entry=entries[trial.entry],
                    drawn=tuple(listed) if drawn else None,
                    version=of_version,
                    torch_compile=compiles,
                )
            )
    return planned


def _points(entry: OfficialEntry, workload: str) -> tuple[list[Point], bool]:
    """An entry's points on a workload, and whether they replace its own list."""
    given = FLAGS.search_space
    if given is None:
        return entry.points(FLAGS.points), entry.has_ranges
    if entry.space is None:
        raise UserError(f"--search_space={given}: {entry.name} tunes itself and takes no points")
    if given == _WORKLOAD_SPACE:
        return search_spaces.draw(workload, entry.name, FLAGS.points), True
    return entry.points_of(Path(given), FLAGS.points), True


def version() -> str:
    """The version of the benchmark: of --version, else of the checkout, else the newest."""
    given: str | None = FLAGS.version
    return given or installation.version_of(installation.default_checkout())


def _gpus() -> int:
    """GPUs that train a trial together: of --gpus, else those that the budgets are for."""
    gpus: int | None = FLAGS.gpus
    return RULES[version()].gpus if gpus is None else gpus


def node_from_flags(output: str) -> Node:
    """The node as the flags describe it; a dry run only notes that the benchmark is missing."""
    if FLAGS.slurm and FLAGS.at_once > 1:
        raise UserError(
            f"--at_once={FLAGS.at_once}: a job of --slurm is one trial; --slurm_cpus lets several "
            "share a node"
        )
    for problem in installation.problems():
        if not FLAGS.dry_run:
            raise UserError(problem)
        print(f"note: {problem}", file=sys.stderr)
    return Node(
        checkout=installation.default_checkout(),
        python=installation.default_python(),
        gpus=_gpus(),
        data_dir=Path(FLAGS.data_dir).expanduser().absolute(),
        output=Path(output).expanduser().absolute(),
        runner_flags=tuple(FLAGS.runner_flag),
        skip_checks=checks.names_to_skip(FLAGS.skip_checks),
        at_once=FLAGS.at_once,
    )


def run(planned: Sequence[OfficialTrial], node: Node) -> list[Failure]:
    """Runs what is not complete, `node.at_once` at a time; returns those that failed.

    UserError if a check of the node or of its data has failed.
    """
    checks.check(_incomplete(planned, node), node)
    failures: list[Failure] = []

    def report(trial: OfficialTrial, is_complete: bool, line: str) -> None:
        if is_complete:
            print(line, flush=True)
        else:
            log = trial.directory(node.output) / LOG
            failures.append(Failure(Job(trial.trial.name, (), log), 1, line))

    try:
        if node.at_once > 1:
            side_by_side.run(planned, node, report)
        else:
            for trial in planned:
                report(trial, *_completed(trial, node))
    except BaseException:
        print_failures(failures)  # which else were lost
        raise
    return failures


def _completed(trial: OfficialTrial, node: Node) -> tuple[bool, str]:
    try:
        return True, complete(trial, node)
    except (RunnerFailedError, UserError, OSError) as error:
        return False, str(error)


def submit(planned: Sequence[OfficialTrial], node: Node) -> None:
    """Submits what is not complete to Slurm, a job per trial; UserError where there is none."""
    slurm.submit(_incomplete(planned, node), node)


def _incomplete(planned: Sequence[OfficialTrial], node: Node) -> list[OfficialTrial]:
    return [trial for trial in planned if _state(trial, node) != "complete"]


def _state(trial: OfficialTrial, node: Node) -> str:
    try:
        return describe(trial, node)
    except UserError as error:
        return f"refused: {error}"


def print_plan(planned: Sequence[OfficialTrial], node: Node) -> None:
    """Per trial a comment and the exact command, ready for a shell; creates nothing."""
    for problem in checks.without_gpus(planned, node):
        print(f"note: {problem}", file=sys.stderr)
    for number, trial in enumerate(planned):
        print(f"# {trial.trial.name}: {_state(trial, node)}")
        if trial.drawn is not None and (space := trial.space(node.output)):
            print(f"# {space} will hold the points; this one: {dict(trial.trial.hyperparameters)}")
        place = dataclasses.replace(node, slot=number % node.at_once)
        print(command(trial, place).shell())
    incomplete = _incomplete(planned, node)
    complete = len(planned) - len(incomplete)
    print(f"# {len(planned)} trials, {complete} complete, {len(incomplete)} to run")
    if FLAGS.slurm:
        slurm.print_plan(incomplete, node)
