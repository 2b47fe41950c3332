"""Command lines of `scripts`, run to their end in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from scripts.local import environment

FAKE_MAIN = Path(__file__).parent / "fake" / "fake_main.py"


def finish(*command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Runs Python with these arguments from the repository's root, on one thread."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=environment.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
    )


def finish_fake(script: str, *flags: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """The same of a script that knows the workload `fake` and its entries."""
    return finish(str(FAKE_MAIN), script, *flags, **variables)


def must_succeed(done: "subprocess.CompletedProcess[str]") -> str:
    """What a command without errors has printed."""
    assert done.returncode == 0, done.stderr
    return done.stdout


def must_refuse(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line with which a command has refused what it was given."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def running(path: Path, word: str = "") -> list[int]:
    """The processes that name a path in their command line and have an argument that ends so."""
    lines = {process.pid: process.info["cmdline"] for process in psutil.process_iter(["cmdline"])}
    return [
        pid
        for pid, line in lines.items()
        if any(str(path) in argument for argument in line or ())
        and any(argument.endswith(word) for argument in line)
    ]


def wait_until(condition: Callable[[], object]) -> None:
    """Returns once the condition holds; fails after 100 s."""
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
