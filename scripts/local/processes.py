"""Processes that share a machine fairly: each on its own cores, none outliving its parent."""

import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from common import progress
from common.cli import UserError
from scripts.local.environment import ROOT, available_cores
from scripts.local.log_errors import last_error

FLAGS = flags.FLAGS

_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1


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


@dataclasses.dataclass
class _Running:
    job: Job
    process: "subprocess.Popen[bytes]"
    slot: int
    log_start: int


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

    The commands must accept `--cores` and `--parent_pid`, as `scripts.run` does. If interrupted,
    asks the running jobs to stop, waits for them, and raises KeyboardInterrupt or SystemExit.

    Args:
      done: jobs finished earlier, for the progress bar.
      unit: what a job is called there.
      nproc: processes of a job, of `threads` threads each; it has a core for each thread.
    """
    cores = core_slots(slots, nproc * threads)
    pending, free = list(reversed(jobs)), list(reversed(range(slots)))
    running: list[_Running] = []
    failures: list[Failure] = []
    previous = signal.signal(signal.SIGTERM, _exit_on_sigterm)
    try:
        with progress.bar(done + len(jobs), f"{unit}s", unit, initial=done) as bar:
            while pending or running:
                while pending and free:
                    slot = free.pop()
                    running.append(_start(pending.pop(), slot, cores[slot], threads))
                for item in [item for item in running if item.process.poll() is not None]:
                    running.remove(item)
                    free.append(item.slot)
                    if item.process.returncode != 0:
                        failures.append(_failure(item))
                    failed = f", {len(failures)} failed" if failures else ""
                    bar.set_postfix_str(f"({item.job.name} done{failed})")
                    bar.update(1)
                time.sleep(_POLL_SECONDS)
    finally:
        for item in running:
            item.process.terminate()
        for item in running:
            item.process.wait()
        signal.signal(signal.SIGTERM, previous)
    return failures


def _start(job: Job, slot: int, cores: Sequence[int], threads: int) -> _Running:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    command = [
        *job.command,
        f"--cores={','.join(map(str, cores))}",
        f"--parent_pid={os.getpid()}",
    ]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
    }
    with job.log.open("ab") as log:
        start = log.tell()
        # Ctrl-C reaches the parent alone, which then asks its jobs to save and stop.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    return _Running(job, process, slot, start)


def _failure(item: _Running) -> Failure:
    code = item.process.returncode
    return Failure(item.job, code, last_error(item.job.log, code, item.log_start))


def _exit_on_sigterm(signum: int, frame: object) -> None:
    del frame
    raise SystemExit(128 + signum)


def define_flags() -> None:
    """Declares what `run_jobs` and whoever starts a job tell its process."""
    flags.DEFINE_integer("threads", 1, "PyTorch threads", lower_bound=1)
    flags.DEFINE_list("cores", None, "run on these cores only")
    flags.DEFINE_integer("parent_pid", None, "end when this process, the parent, ends")


def settle() -> None:
    """Makes this process one of a kind with its flags; before torch or NumPy are imported.

    Raises:
      UserError: for cores that are none, or not available.
    """
    if FLAGS.parent_pid is not None:
        die_with(FLAGS.parent_pid)
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


def die_with(parent_pid: int) -> None:
    """Has the kernel end this process when its parent ends, and ends it if that has happened."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise SystemExit(f"the process that started this one ({parent_pid}) has ended")
