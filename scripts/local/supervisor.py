"""The one way to run a command in a process of its own and to end it with its whole family.

    outcome = supervisor.run(command, log, limits=Limits(seconds=60, memory=2 * GIB))
    if outcome.problem: ...

`run` waits for one command: it samples the memory of the process and of its descendants, ends all
of them at a limit, and says how it went. `Child` is one running command, for whoever waits for
several at a time (`scripts.local.studies.run_jobs`). In both cases

- output goes to the end of a log, from which the reason of a failure is taken (`last_error`);
- the process has a session of its own, so Ctrl-C reaches its parent alone, which ends it in order;
- the kernel ends it when its parent is killed (on Linux);
- ending it ends its descendants, those in sessions of their own (ranks of torchrun) included.
"""

import ctypes
import dataclasses
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from common.cli import Terminated

GIB = 2**30
_KILL_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1

# The last line of a traceback, of any rank, or what `common.cli` prints. That of torchrun comes
# after its ranks' own and says nothing.
_ERROR = re.compile(
    r"(?:\[rank\d+\]: )?"
    r"((?!.*ChildFailedError)[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Failure)\b.*"
    r"|error: .*)"
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Seconds, and bytes of resident memory of all processes, after which a command is ended."""

    seconds: float = math.inf
    memory: float = math.inf


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
      returncode: its exit code, or minus the signal that ended it.
      seconds: from its start to its end.
      peak: bytes resident in it and its descendants together, the largest of the samples. Pages
        that several of them share count for each.
      problem: why it failed, in one line; empty if its exit code was 0.
      limited: whether it was ended at a limit.
    """

    returncode: int
    seconds: float
    peak: int
    problem: str = ""
    limited: bool = False


class Child:
    """A running command."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        parent_death: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Starts the command.

        Args:
          command: program and arguments.
          log: file to whose end the output goes; its folder is created.
          folder: working directory; None for this process's.
          environment: all of its variables; None for this process's.
          parent_death: the signal that it gets when this process is killed.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        self._family: set[psutil.Process] = set()
        with log.open("ab") as stream:
            self._log_start = stream.tell()
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=None if environment is None else dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent(parent_death),
            )

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit code as soon as there is one; None if it still runs after so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def resident_bytes(self) -> int:
        """Resident memory of the process and its descendants, which `end` will remember."""
        total = 0
        self._note_family()
        for process in self._family:
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def terminate(self) -> None:
        """Asks the process, and what shares its session, to end."""
        self._signal(signal.SIGTERM)

    def end(self, grace_seconds: float = 0.0) -> None:
        """Ends the process and all that it has started; returns once they are gone.

        Args:
          grace_seconds: how long it may take to end in order before it is killed. If 0, it is not
            asked to.
        """
        self._note_family()
        if grace_seconds:
            self.terminate()
            self.wait(grace_seconds)
            self._note_family()
        self._signal(signal.SIGKILL)
        for process in self._family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.wait(_KILL_SECONDS)
        psutil.wait_procs(self._family, _KILL_SECONDS)

    def problem(self) -> str:
        """Why the ended process failed, in one line; empty if its exit code was 0."""
        code = self._process.returncode
        return last_error(self._log, code, self._log_start) if code else ""

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _note_family(self) -> None:
        """Remembers the process and its descendants: orphans are nobody's children any more."""
        if self.poll() is not None:  # its number may be another's by now
            return
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._process.pid)
            self._family.update([root, *root.children(recursive=True)])


def run(
    command: Sequence[str],
    log: Path,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    poll_seconds: float = 0.1,
    look: Callable[[], None] = lambda: None,
    grace_seconds: float = 0.0,
    parent_death: signal.Signals = signal.SIGKILL,
) -> Outcome:
    """Runs a command to its end and says how it went; whatever happens here ends its family.

    Args:
      command, log, folder, environment, parent_death: as of `Child`.
      limits: at which it is killed.
      poll_seconds: between two samples of its memory.
      look: called after each sample, and once after the end.
      grace_seconds: as of `Child.end`, where an exception of `look` or a signal ends the wait.
    """
    limits = limits or Limits()
    begin, peak, limited = time.monotonic(), 0, ""
    child = Child(command, log, folder, environment, parent_death)
    try:
        while not limited:
            peak = max(peak, child.resident_bytes())
            if time.monotonic() - begin > limits.seconds:
                limited = f"ended after {limits.seconds:g} s"
            elif peak > limits.memory:
                limited = f"ended at {peak / GIB:.1f} GiB"
            elif child.wait(poll_seconds) is not None:
                break
            else:
                look()
        child.end()
    except BaseException:
        child.end(grace_seconds)
        raise
    seconds = time.monotonic() - begin
    look()
    return Outcome(child.poll() or 0, seconds, peak, limited or child.problem(), bool(limited))


def last_error(log: Path, code: int, start: int = 0) -> str:
    """The last error that a log names, else its last line, else the exit code.

    Args:
      code: the exit code; below 0, it is the signal that is named.
      start: the byte of the log from which on it is the process's.
    """
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    try:
        with log.open("rb") as stream:
            stream.seek(start)
            text = stream.read().decode("utf-8", "replace")
    except OSError as error:
        return f"exit code {code}; {log} cannot be read: {error.strerror}"
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    errors = [match[1] for line in lines if (match := _ERROR.match(line))]
    if errors or lines:
        return (errors or lines)[-1].lstrip()
    space = os.statvfs(log.parent)  # a full disk takes no error
    is_full = not space.f_bavail or (space.f_files and not space.f_favail)
    return f"exit code {code}{', the disk of its log is full' if is_full else ''}"


def most_memory() -> float:
    """Bytes that one program may take: four fifths of what is free."""
    return 0.8 * psutil.virtual_memory().available


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Has SIGTERM raise `Terminated` in the block, unless somebody handles that signal already."""
    previous = signal.getsignal(signal.SIGTERM)
    if previous is not signal.SIG_DFL:  # submitit has a handler of its own
        yield
        return
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def end_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Has the kernel send this process a signal when its parent ends, where it can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def set_up() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)  # it ended before the call

    return set_up


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    del frame
    raise Terminated(128 + number)
