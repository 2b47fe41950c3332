"""Command lines of `scripts`, run to their end in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

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
