"""Runs many trials on this machine, several at a time, and records that in a manifest.

The one runner of `scripts.study`, `scripts.tune` and `scripts.league.vary`, with the flags that
they share. Each job is a process with its own cores and threads.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from absl import flags

from common import files, progress
from common.cli import UserError
from scripts.local import entries, environment, manifest, supervisor
from scripts.local import trial as trials
from scripts.local.lock import locked
from scripts.local.supervisor import Child
from scripts.local.trial import Trial
from workloads import registry

FLAGS = flags.FLAGS
RUN = (sys.executable, "-m", "scripts.run")
_POLL_SECONDS = 0.05


@dataclasses.dataclass(frozen=True)
class Job:
    """A command whose output goes to the end of `log`."""

    name: str
    command: Sequence[str]
    log: Path


@dataclasses.dataclass(frozen=True)
class Failure:
    """A job that ended with another exit code than 0, and why (`supervisor.last_error`)."""

    job: Job
    returncode: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Machine:
    """How trials run here: `nproc` processes of `threads` each; `command` starts one trial."""

    jobs: int
    nproc: int = 1
    threads: int = 1
    checkpoint_period_seconds: float = 15.0
    command: tuple[str, ...] = dataclasses.field(default_factory=lambda: RUN)


def define_machine_flags() -> None:
    """Flags of all that runs several trials at a time."""
    flags.DEFINE_integer("jobs", None, "trials at a time (default: as cores allow)", lower_bound=1)
    flags.DEFINE_integer("threads", 1, "PyTorch threads per process", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "base seed", lower_bound=0)
    flags.DEFINE_bool("dry_run", False, "print the plan and what is complete; create nothing")
    flags.DEFINE_integer("nproc", 1, "processes that train a trial together", lower_bound=1)
    flags.DEFINE_float(
        "checkpoint_period_seconds", 15.0, "least time between two checkpoints", lower_bound=0.0
    )


def machine_from_flags() -> Machine:
    """The machine as the flags describe it; warns if trials share cores."""
    cores, threads = len(environment.available_cores()), FLAGS.nproc * FLAGS.threads
    jobs = FLAGS.jobs or max(1, cores // threads)
    if jobs * threads > cores:
        print(
            f"warning: {jobs} jobs of {threads} threads share {cores} cores; "
            "their times are not comparable",
            file=sys.stderr,
        )
    return Machine(jobs, FLAGS.nproc, FLAGS.threads, FLAGS.checkpoint_period_seconds)


def workloads_from_flags() -> tuple[str, ...]:
    """The workloads of --workloads without repeats; UserError for none, or as the registry."""
    return _names("workloads", registry.check_trains_here)


def entries_from_flags() -> tuple[str, ...]:
    """Names of the entries of --entries, without repeats; UserError as `entries.named`."""
    return tuple(dict.fromkeys(map(entries.named, _names("entries", entries.named))))


def _names(flag: str, check: Callable[[str], object]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(FLAGS[flag].value or ()))
    if not names:
        raise UserError(f"--{flag} is empty")
    for name in names:
        check(name)
    return names


def print_caveats(workloads: Sequence[str]) -> None:
    """Warns of each workload whose targets may not hold on this machine."""
    for caveat in filter(None, map(registry.caveat, workloads)):
        print(f"warning: {caveat}", file=sys.stderr)


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
    """Runs the trials that are not complete and records that in the manifest of `output`.

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
        jobs = [_job(trial, spaces.get(trial.entry), output, machine) for trial in left]
        settings = {
            "jobs": machine.jobs,
            "nproc": machine.nproc,
            "threads": machine.threads,
            "cores": environment.core_slots(machine.jobs, machine.nproc * machine.threads),
            "seed": planned[0].seed,
            "trials_planned": len(planned),
            "trials_to_run": len(jobs),
        }
        failures: list[Failure] = []
        try:
            with manifest.recorded(output, **settings) as record:
                run_jobs(jobs, len(planned) - len(jobs), machine, failures)
                record["trials_failed"] = len(failures)
                record["outcome"] = "failed trials" if failures else "complete"
        except BaseException:
            print_failures(failures)  # which else were lost
            raise
        return failures


def _job(trial: Trial, space: Path | None, output: Path, machine: Machine) -> Job:
    command = [
        *machine.command,
        f"--workload={trial.workload}",
        f"--entry={entries.argument(trial.entry)}",
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


def run_jobs(jobs: Sequence[Job], done: int, machine: Machine, failures: list[Failure]) -> None:
    """Runs all jobs, each pinned to its own cores, and adds those that fail to `failures`.

    The commands must accept `--cores`, as `scripts.run` does. A job that cannot be started, such as
    on a full disk, has failed. If interrupted, asks the running jobs to stop, waits for them, and
    raises KeyboardInterrupt or SystemExit.
    """
    cores = environment.core_slots(machine.jobs, machine.nproc * machine.threads)
    pending, free = list(reversed(jobs)), list(reversed(range(machine.jobs)))
    running: dict[int, tuple[Job, Child]] = {}

    def note(job: Job, code: int, problem: str) -> None:
        if code != 0:
            failures.append(Failure(job, code, problem))
        failed = f", {len(failures)} failed" if failures else ""
        bar.set_postfix_str(f"({job.name} done{failed})")
        bar.update(1)

    with (
        supervisor.exit_on_sigterm(),
        progress.bar(done + len(jobs), "trials", "trial", initial=done) as bar,
    ):
        try:
            while pending or running:
                while pending and free:
                    slot, job = free.pop(), pending.pop()
                    try:
                        running[slot] = job, _start(job, cores[slot], machine.threads)
                    except OSError as error:
                        free.append(slot)
                        note(job, 1, f"cannot start: {error.strerror}: {error.filename}")
                for slot, (job, child) in list(running.items()):
                    code = child.poll()
                    if code is None:
                        continue
                    child.end()
                    del running[slot]
                    free.append(slot)
                    note(job, code, child.problem())
                time.sleep(_POLL_SECONDS)
        finally:
            for _, child in running.values():
                child.terminate()
            for _, child in running.values():
                child.wait()
                child.end()


def _start(job: Job, cores: Sequence[int], threads: int) -> Child:
    paths = [str(environment.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
    }
    command = [*job.command, f"--cores={','.join(map(str, cores))}"]
    return Child(command, job.log, environment=variables)


def print_failures(failures: Sequence[Failure]) -> None:
    """A line on stderr for each failed job, with its reason and its log."""
    for failure in failures:
        log = f" (see {failure.job.log})" if failure.job.log.exists() else ""
        print(f"failed: {failure.job.name}: {failure.reason}{log}", file=sys.stderr)


def report(failures: Sequence[Failure], planned: int, output: Path) -> int:
    """Says how a study of so many trials ended; 1 if a trial failed, else 0."""
    print_failures(failures)
    if failures:
        print(
            f"{len(failures)} of {planned} trials failed; the same command runs only these",
            file=sys.stderr,
        )
        return 1
    print(f"all {planned} trials complete in {output}")
    return 0
