"""Runs workloads x entries x studies x trials, in parallel, resuming what was interrupted.

    python -m scripts.study --entries=shampoo,adamw --studies=3 --output=runs/example

Each trial is a process of its own (`python -m scripts.run`), or --nproc of them that share its
batches, pinned to its own cores. A finished trial has a status.json and is never run again.

With --suite=official each runs under the benchmark's own runner, one after another on all GPUs, or
as a Slurm job (`scripts.official.suite`).
"""

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from absl import flags

from common import cli, files
from common.cli import UserError
from scripts.local import entries, environment, manifest, processes
from scripts.local import plan as plans
from scripts.local import trial as trials
from scripts.local.lock import locked
from scripts.local.processes import Failure, Job
from scripts.local.trial import Trial
from scripts.official import suite
from scripts.official.trial import OfficialTrial
from workloads import registry, rulesets, search_space

FLAGS = flags.FLAGS
RUN = (sys.executable, "-m", "scripts.run")
_FOR_STANDINS = ("jobs", "nproc", "threads", "checkpoint_period_seconds", "best_from")


@dataclasses.dataclass(frozen=True)
class Machine:
    """How trials run here: `nproc` processes of `threads` each; `command` starts one trial."""

    jobs: int
    nproc: int = 1
    threads: int = 1
    checkpoint_period_seconds: float = 15.0
    command: tuple[str, ...] = dataclasses.field(default_factory=lambda: RUN)


def define_flags() -> None:
    """Declares the command line."""
    define_plan_flags()
    define_machine_flags()
    flags.DEFINE_enum("suite", "standin", ["standin", "official"], "which workloads there are")
    suite.define_flags()
    flags.adopt_module_key_flags(suite)
    flags.DEFINE_integer("studies", 3, "repeats with other seeds", lower_bound=1)
    flags.DEFINE_integer(
        "first_study", 0, "index of the first one; it enters the seeds", lower_bound=0
    )
    flags.DEFINE_list(
        "trials", ["all"], "`all` points of the search spaces, `best`, or numbers such as 1,2"
    )
    flags.DEFINE_string("best_from", None, "points.csv of an earlier report, for --trials=best")


def define_plan_flags() -> None:
    """Flags that say which workloads and entries to run, and where to log."""
    flags.DEFINE_list("workloads", registry.names("standin"), "workloads to train")
    flags.DEFINE_list("entries", None, "folders of submission/entries", required=True)
    flags.DEFINE_string("output", None, "folder for the logs", required=True)


def define_machine_flags() -> None:
    """Flags that say how trials run on this machine."""
    define_job_flags()
    flags.DEFINE_integer("nproc", 1, "processes that train a trial together", lower_bound=1)
    flags.DEFINE_float(
        "checkpoint_period_seconds", 15.0, "least time between two checkpoints", lower_bound=0.0
    )


def define_job_flags() -> None:
    """Those of them that do not depend on checkpoints."""
    flags.DEFINE_integer("jobs", None, "trials at a time (default: as cores allow)", lower_bound=1)
    flags.DEFINE_integer("threads", 1, "PyTorch threads per process", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "base seed", lower_bound=0)
    flags.DEFINE_bool("dry_run", False, "print the plan and what is complete; create nothing")


def machine_from_flags() -> Machine:
    """The machine as the flags describe it."""
    return Machine(
        jobs=jobs_from_flags(FLAGS.nproc),
        nproc=FLAGS.nproc,
        threads=FLAGS.threads,
        checkpoint_period_seconds=FLAGS.checkpoint_period_seconds,
    )


def jobs_from_flags(nproc: int = 1) -> int:
    """Trials of `nproc` processes at a time as the flags ask; warns if they share cores."""
    cores = len(environment.available_cores())
    threads = nproc * FLAGS.threads
    jobs = FLAGS.jobs or max(1, cores // threads)
    if jobs * threads > cores:
        print(
            f"warning: {jobs} jobs of {threads} threads share {cores} cores; "
            "their times are not comparable",
            file=sys.stderr,
        )
    return jobs


def names_from_flags() -> tuple[list[str], list[str]]:
    """The workloads and entries of the flags, without repeats; UserError for unknown ones."""
    workloads, chosen = list(dict.fromkeys(FLAGS.workloads)), list(dict.fromkeys(FLAGS.entries))
    for flag, given in (("workloads", workloads), ("entries", chosen)):
        if not given:
            raise UserError(f"--{flag} is empty")
    for workload in workloads:
        registry.facts(workload)
    for entry in chosen:
        entries.folder(entry)
    return workloads, chosen


def print_caveats(workloads: Sequence[str]) -> None:
    """Warns of each workload whose targets may not hold on this machine."""
    for caveat in filter(None, map(registry.caveat, workloads)):
        print(f"warning: {caveat}", file=sys.stderr)


def main(argv: Sequence[str]) -> int:
    """Runs the study that the flags describe; 1 if a trial failed."""
    del argv
    studies = range(FLAGS.first_study, FLAGS.first_study + FLAGS.studies)
    if FLAGS.suite == "official":
        return _main_official(studies)
    official_only = FLAGS.get_key_flags_for_module(suite)
    _refuse((flag.name for flag in official_only), "official")
    workloads, chosen_entries = names_from_flags()
    spaces = {entry: entries.standin_points_file(entry) for entry in chosen_entries}
    points = {entry: search_space.points(path) for entry, path in spaces.items()}
    choice = _choice(workloads, points)
    planned = plans.trials_of(studies, points, choice, FLAGS.seed)
    print_caveats(workloads)
    if FLAGS.dry_run:
        print_plan(planned, Path(FLAGS.output))
        return 0
    failures = run_study(planned, {}, Path(FLAGS.output), machine_from_flags())
    return report(failures, planned, Path(FLAGS.output))


def _main_official(studies: Sequence[int]) -> int:
    _refuse(_FOR_STANDINS, "standin")
    workloads = rulesets.ruleset(FLAGS.version).base_workloads
    if FLAGS["workloads"].present:
        workloads = tuple(dict.fromkeys(FLAGS.workloads))
    numbers = None if FLAGS.trials == ["all"] else _numbers("all, or numbers from 1")
    planned = suite.trials_from_flags(workloads, FLAGS.entries, studies, numbers, FLAGS.seed)
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
    failures = suite.run(planned, node)
    return report(failures, [trial.trial for trial in planned], node.output)


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
    numbers: dict[str, list[int]] = {}
    for entry in points:
        if given == ["all"]:
            numbers[entry] = list(range(1, len(points[entry]) + 1))
        else:
            numbers[entry] = _numbers("all, best, or numbers from 1")
    return {(entry, workload): numbers[entry] for workload in workloads for entry in points}


def print_plan(planned: Sequence[Trial], output: Path) -> None:
    """One line per trial, and how many are complete."""
    complete = 0
    for trial in planned:
        done = trials.is_complete(trial, output)
        complete += done
        print(f"{'complete' if done else 'to run  '}  {trial.directory(output)}")
    print(f"{len(planned)} trials, {complete} complete, {len(planned) - complete} to run")


def run_study(
    planned: Sequence[Trial], spaces: Mapping[str, Path], output: Path, machine: Machine
) -> list[Failure]:
    """Runs the trials that are not complete and records that in the manifest.

    Args:
      spaces: the file of points of each entry that does not use its own.

    Raises:
      UserError: another study runs in `output`, or `output` cannot be written to.
    """
    files.make_directory(output)
    with locked(output, "a study"):
        left = []
        for trial in planned:
            if trials.is_complete(trial, output):
                # kill -9 can strike after status.json is written and before this is removed.
                (trial.directory(output) / trials.CHECKPOINT).unlink(missing_ok=True)
            else:
                left.append(trial)
        if not left:
            return []
        settings = {
            "jobs": machine.jobs,
            "nproc": machine.nproc,
            "threads": machine.threads,
            "cores": processes.core_slots(machine.jobs, machine.nproc * machine.threads),
            "seed": left[0].seed,
            "trials_planned": len(planned),
            "trials_to_run": len(left),
        }
        with manifest.recorded(output, **settings) as record:
            jobs = [_job(trial, spaces.get(trial.entry), output, machine) for trial in left]
            done = len(planned) - len(left)
            failures = processes.run_jobs(
                jobs, machine.jobs, machine.threads, done, nproc=machine.nproc
            )
            record["trials_failed"] = len(failures)
            record["outcome"] = "failed trials" if failures else "complete"
    return failures


def _job(trial: Trial, space: Path | None, output: Path, machine: Machine) -> Job:
    command = [
        *machine.command,
        f"--workload={trial.workload}",
        f"--entry={trial.entry}",
        f"--study={trial.study}",
        f"--trial={trial.trial}",
        f"--output={output}",
        f"--seed={trial.seed}",
        f"--nproc={machine.nproc}",
        f"--threads={machine.threads}",
        f"--checkpoint_period_seconds={machine.checkpoint_period_seconds}",
    ]
    if space is not None:
        command.append(f"--search_space={space}")
    if trial.max_steps is not None:
        command.append(f"--max_steps={trial.max_steps}")
    if trial.ignore_targets:
        command.append("--ignore_targets")
    return Job(trial.name, command, trial.directory(output) / trials.LOG)


def report(failures: Sequence[Failure], planned: Sequence[Trial], output: Path) -> int:
    """Says how the study ended; 1 if a trial failed, else 0."""
    for failure in failures:
        print(
            f"failed: {failure.job.name}: {failure.reason} (see {failure.job.log})", file=sys.stderr
        )
    if failures:
        print(
            f"{len(failures)} of {len(planned)} trials failed; the same command runs only these",
            file=sys.stderr,
        )
        return 1
    print(f"all {len(planned)} trials complete in {output}")
    return 0


if __name__ == "__main__":
    define_flags()
    cli.run(main)
