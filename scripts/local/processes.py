"""Jobs that share a machine fairly: each process on its own cores, with its own threads."""

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from common import progress
from common.cli import UserError
from scripts.local import supervisor
from scripts.local.environment import ROOT, available_cores
from scripts.local.supervisor import Child

FLAGS = flags.FLAGS

_POLL_SECONDS = 0.05


@dataclasses.dataclass(frozen=True)
class Job:
    """A command whose output goes to the end of `log`."""

    name: str
    command: Sequence[str]
    log: Path


@dataclasses.dataclass(frozen=True)
class Failure:
    """A job that ended with another exit code than 0, and why, as `log_errors` has it."""

    job: Job
    returncode: int
    reason: str


def core_slots(jobs: int, threads: int) -> list[list[int]]:
    """The cores of each of `jobs` parallel processes; shared only if there are too few."""
    cores = available_cores()
    return [
        sorted({cores[(slot * threads + index) % len(cores)] for index in range(threads)})
        for slot in range(jobs)
    ]


def run_jobs(
    jobs: Sequence[Job],
    slots: int,
    threads: int,
    done: int = 0,
    unit: str = "trial",
    nproc: int = 1,
) -> list[Failure]:
    """Runs all jobs, `slots` at a time, each pinned to its own cores; returns the failed ones.

    The commands must accept `--cores`, as `scripts.run` does. If interrupted, asks the running jobs
    to stop, waits for them, and raises KeyboardInterrupt or SystemExit.

    Args:
      done: jobs finished earlier, for the progress bar.
      unit: what a job is called there.
      nproc: processes of a job, of `threads` threads each; it has a core for each thread.
    """
    cores = core_slots(slots, nproc * threads)
    pending, free = list(reversed(jobs)), list(reversed(range(slots)))
    running: dict[int, tuple[Job, Child]] = {}
    failures: list[Failure] = []
    with (
        supervisor.exit_on_sigterm(),
        progress.bar(done + len(jobs), f"{unit}s", unit, initial=done) as bar,
    ):
        try:
            while pending or running:
                while pending and free:
                    slot, job = free.pop(), pending.pop()
                    running[slot] = job, _start(job, cores[slot], threads)
                for slot, (job, child) in list(running.items()):
                    code = child.poll()
                    if code is None:
                        continue
                    child.end()
                    del running[slot]
                    free.append(slot)
                    if code != 0:
                        failures.append(Failure(job, code, child.problem()))
                    failed = f", {len(failures)} failed" if failures else ""
                    bar.set_postfix_str(f"({job.name} done{failed})")
                    bar.update(1)
                time.sleep(_POLL_SECONDS)
        finally:
            for _, child in running.values():
                child.terminate()
            for _, child in running.values():
                child.wait()
                child.end()
    return failures


def _start(job: Job, cores: Sequence[int], threads: int) -> Child:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
    }
    command = [*job.command, f"--cores={','.join(map(str, cores))}"]
    return Child(command, job.log, environment=environment)


def define_flags() -> None:
    """Declares how many threads and which cores a process uses."""
    flags.DEFINE_integer("threads", 1, "PyTorch threads", lower_bound=1)
    flags.DEFINE_list("cores", None, "run on these cores only")


def apply_process_flags() -> None:
    """Pins cores and thread counts as the flags say; call before torch or NumPy are imported.

    Raises:
      UserError: for cores that are none, or not available.
    """
    if FLAGS.cores:
        pin_to_cores(_numbers(FLAGS.cores))
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(FLAGS.threads)


def _numbers(cores: Sequence[str]) -> list[int]:
    try:
        return [int(core) for core in cores]
    except ValueError as error:
        raise UserError(f"--cores={','.join(cores)}: give whole numbers") from error


def pin_to_cores(cores: Sequence[int]) -> None:
    """Restricts this process to `cores`, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        return
    try:
        os.sched_setaffinity(0, cores)
    except OSError as error:
        allowed = ",".join(map(str, available_cores()))
        given = ",".join(map(str, cores))
        raise UserError(f"--cores={given}: cores available here: {allowed}") from error
