"""Runs one trial under the official runner to its end, however often it is interrupted."""

import ctypes
import datetime
import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from common import files, progress
from common.cli import UserError
from scripts.local import environment
from scripts.local.log_errors import last_error
from scripts.local.trial import LOG, STATUS
from scripts.official import logs
from scripts.official.command import Command, Node, command
from scripts.official.keep import Keeper
from scripts.official.trial import OfficialTrial

_POLL_SECONDS = 5.0
# torchrun itself gives its ranks 30 s to end before it kills them.
_STOP_SECONDS = 60.0
_KILL_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


class RunnerFailedError(Exception):
    """The official runner ended without having finished the trial; the message says how."""


def complete(trial: OfficialTrial, node: Node, poll_seconds: float = _POLL_SECONDS) -> str:
    """Runs a trial, resumes it, or leaves it as it is if it is complete; one line about it.

    Raises:
      UserError: its folder holds another trial, damaged files, or is in use.
      RunnerFailedError: the runner failed.
    """
    directory = files.make_directory(trial.directory(node.output))
    with _held(directory):
        status, done = logs.finished(trial, directory), "already complete"
        if status is None:
            done = "complete"
            step = logs.prepare(trial, directory)
            if step:
                print(f"{trial.trial.name}: goes on from step {step}", file=sys.stderr)
            status = _run(trial, node, directory, poll_seconds)
        if not (directory / STATUS).exists():
            files.write_json(directory / STATUS, status)
        if "source" not in status:
            for checkpoint in logs.checkpoints(directory):
                with suppress(OSError):  # the next call finds it again
                    checkpoint.unlink()
    how = status["reason"]
    if "exit_code" in status:
        how += f"; the runner then ended with exit code {status['exit_code']}"
    return (
        f"{trial.trial.name}: {done} ({how}) at step {status['global_step']} "
        f"after {status['accumulated_submission_time']:.1f} s; logs in {directory}"
    )


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Keeps every other process from the trial, of another node as well; UserError if it is held.

    Unlike `trials.locked` it holds a file open for writing, as file systems of clusters ask for.
    """
    with (directory / ".lock").open("a") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held = error.errno in (errno.EACCES, errno.EAGAIN)
            why = "another process is running it" if held else error.strerror
            raise UserError(f"cannot lock the trial in {directory}: {why}") from error
        yield


def _run(trial: OfficialTrial, node: Node, directory: Path, poll_seconds: float) -> dict[str, Any]:
    trial.write_space(node.output)
    started = command(trial, node)
    _record(started, node, directory)
    log = directory / LOG
    with log.open("ab") as stream:
        stream.write(f"$ {started.shell()}\n".encode())
        start = stream.tell()
    with progress.bar(round(trial.budget_seconds), trial.trial.name, "s") as bar:
        keeper = Keeper(trial, directory, bar)
        code = _watch(started, log, poll_seconds, keeper.look)
    try:
        ending = logs.ending(trial, directory)
    except UserError:
        if code == 0:
            raise
        ending = None
    if ending is None and code != 0:
        raise RunnerFailedError(last_error(log, code, start))
    if ending is None:
        raise RunnerFailedError("the runner ended without finishing the trial")
    return ending | {"gpus": node.gpus} | ({"exit_code": code} if code else {})


def _record(started: Command, node: Node, directory: Path) -> None:
    """Writes with which command, on what and at which commit the trial is started or resumed."""
    number = len(list(directory.glob(logs.LAUNCH.format("*"))))
    record = {
        "command": started.shell(),
        "gpus": node.gpus,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **environment.describe(),
    }
    files.write_json(directory / logs.LAUNCH.format(number), record)


def _watch(started: Command, log: Path, poll_seconds: float, look: Callable[[], None]) -> int:
    """Runs a command with its output at the end of `log`; looks now and then; the exit code."""
    with log.open("ab") as stream:
        process = subprocess.Popen(
            started.arguments,
            cwd=started.directory,
            env=started.environment(),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone
            preexec_fn=_end_with_parent(),
        )
    handled = _exit_on(signal.SIGTERM)
    family: set[psutil.Process] = set()
    try:
        while True:
            family |= _descendants(process)
            try:
                code = process.wait(poll_seconds)
            except subprocess.TimeoutExpired:
                look()
                continue
            look()
            return code
    finally:
        _stop(process, family)
        if handled is not None:
            signal.signal(signal.SIGTERM, handled)


def _end_with_parent() -> Callable[[], object] | None:
    """Has the kernel end the runner when this process is killed, lest two write the same files."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _exit_on(signum: int) -> Any:
    """Turns a signal into SystemExit, where nobody else has taken it; what it did before."""
    if signal.getsignal(signum) is not signal.SIG_DFL:  # submitit handles them by itself
        return None

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    return signal.signal(signum, leave)


def _stop(process: "subprocess.Popen[bytes]", family: Iterable[psutil.Process]) -> None:
    """Ends a runner and all that it has started.

    Args:
      family: descendants that it has had. The ranks of torchrun have sessions of their own, which
        no signal to the runner's group reaches, and are nobody's children once torchrun is gone.
    """
    family = {*family, *_descendants(process)}
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    family |= _descendants(process)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for one in family:
        with suppress(psutil.NoSuchProcess):  # or a process that has got its number
            one.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_SECONDS)
    psutil.wait_procs(family, _KILL_SECONDS)


def _descendants(process: "subprocess.Popen[bytes]") -> set[psutil.Process]:
    if process.poll() is not None:  # its number may be another's by now
        return set()
    try:
        return set(psutil.Process(process.pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def describe(trial: OfficialTrial, node: Node) -> str:
    """What `complete` would do, for a person; UserError as there."""
    directory = trial.directory(node.output)
    if logs.finished(trial, directory) is not None:
        return "complete"
    found = logs.checkpoints(directory)
    return f"resumes from {found[-1].name}" if found else "to run"
