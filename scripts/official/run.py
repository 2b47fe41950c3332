"""Runs one trial under the official runner to its end, however often it is interrupted."""

import ctypes
import datetime
import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from common import files, progress
from common.cli import UserError
from scripts import environment
from scripts.official import logs
from scripts.official.command import Command, Node, command
from scripts.official.keep import Keeper
from scripts.official.trial import OfficialTrial
from scripts.trial import LOG, STATUS

_POLL_SECONDS = 5.0
_STOP_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1
# The last line of a traceback, of any rank; torchrun's own comes after it and says nothing.
_ERROR = re.compile(r"(?:\[rank\d+\]: )?((?!.*ChildFailedError)[\w.]+(?:Error|Exception)\b.*)")


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
                checkpoint.unlink()
    return (
        f"{trial.trial.name}: {done} ({status['reason']}) at step {status['global_step']} "
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
    start = log.stat().st_size if log.exists() else 0
    with progress.bar(round(trial.budget_seconds), trial.trial.name, "s") as bar:
        keeper = Keeper(trial, directory, bar)
        code = _watch(started, log, poll_seconds, keeper.look)
    if code != 0:
        raise RunnerFailedError(_reason(code, log, start))
    ending = logs.ending(trial, directory)
    if ending is None:
        raise RunnerFailedError("the runner ended without finishing the trial")
    return ending | {"gpus": node.gpus}


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
        stream.write(f"$ {started.shell()}\n".encode())
        stream.flush()
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
    try:
        while True:
            try:
                code = process.wait(poll_seconds)
            except subprocess.TimeoutExpired:
                look()
                continue
            look()
            return code
    finally:
        _stop(process)
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


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a runner and all that it has started."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signum)
        except ProcessLookupError:
            return
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _reason(code: int, log: Path, start: int) -> str:
    """What went wrong, from what was printed after `start` bytes of the log."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    with log.open("rb") as stream:
        stream.seek(start)
        said = stream.read().decode("utf-8", "replace").strip().splitlines()[1:]
    errors = [match[1] for line in said if (match := _ERROR.match(line))]
    return (errors or [line.strip() for line in said if line.strip()] or [f"exit code {code}"])[-1]


def describe(trial: OfficialTrial, node: Node) -> str:
    """What `complete` would do, for a person; UserError as there."""
    directory = trial.directory(node.output)
    if logs.finished(trial, directory) is not None:
        return "complete"
    found = logs.checkpoints(directory)
    return f"resumes from {found[-1].name}" if found else "to run"
