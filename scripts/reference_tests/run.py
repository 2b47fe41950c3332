"""One process, timed, its memory and that of all it starts watched, ended at its limits."""

import contextlib
import dataclasses
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from scripts.local.log_errors import last_error

GIB = 2**30
_POLL_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class Limits:
    """Seconds, and bytes of resident memory, after which a process is ended."""

    seconds: float
    memory: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a process ended.

    Attributes:
      seconds: from its start to its end.
      peak: bytes resident in it and its descendants together, the largest of samples 0.1 s apart.
        Pages that several of them share count for each.
      problem: empty if its exit code was 0.
      limited: whether it was ended at a limit.
    """

    seconds: float
    peak: int
    problem: str = ""
    limited: bool = False


def watched(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    limits: Limits,
) -> Outcome:
    """Runs a command in `folder`, ending all that it has started with it.

    Its output goes to `log`, after the command itself.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    begin, peak, limited = time.monotonic(), 0, ""
    with log.open("wb") as stream:
        stream.write(f"{shlex.join(command)}\n".encode())
        stream.flush()
        start = stream.tell()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while process.poll() is None and not limited:
            peak = max(peak, _resident(process.pid))
            if time.monotonic() - begin > limits.seconds:
                limited = f"ended after {limits.seconds:g} s"
            elif peak > limits.memory:
                limited = f"ended at {peak / GIB:.1f} GiB"
            time.sleep(_POLL_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    seconds = time.monotonic() - begin
    problem = limited or (last_error(log, process.returncode, start) if process.returncode else "")
    return Outcome(seconds, peak, problem, bool(limited))


def most_memory() -> float:
    """Bytes that one program may take: four fifths of what is free."""
    return 0.8 * psutil.virtual_memory().available


def _resident(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total
