"""The official benchmark on this machine: its checkout, and the Python that runs it.

`make algoperf` makes both. The installed package lacks `submission_runner.py` and
`datasets/dataset_setup.py`, which is why a checkout is needed, too.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from common.cli import UserError
from scripts.local.environment import ROOT

DIRECTORY = "ALGOPERF_DIR"
INTERPRETER = "ALGOPERF_PYTHON"
RUNNER = "submission_runner.py"
_REMEDY = "`make algoperf` makes it"


def default_checkout() -> Path:
    """The checkout's folder, which may be missing: $ALGOPERF_DIR, else that of `make algoperf`."""
    return _place(DIRECTORY, ".algorithmic-efficiency")


def default_python() -> Path:
    """The benchmark's Python, which may be missing: $ALGOPERF_PYTHON, else that of `make`."""
    return _place(INTERPRETER, ".venv-algoperf/bin/python")


def _place(variable: str, default: str) -> Path:
    # A virtual environment's python is a link that must not be resolved.
    given = os.environ.get(variable)
    return Path(given).expanduser().absolute() if given else ROOT / default


def problems() -> Iterator[str]:
    """One sentence if the checkout is missing, one if the Python is."""
    directory, interpreter = default_checkout(), default_python()
    if not (directory / RUNNER).is_file():
        yield f"no {RUNNER} in {directory}: {_REMEDY}, or set ${DIRECTORY}"
    if not interpreter.is_file() or not os.access(interpreter, os.X_OK):
        yield f"no Python at {interpreter}: {_REMEDY}, or set ${INTERPRETER}"


def find() -> tuple[Path, Path]:
    """The benchmark's checkout and the Python that has `algoperf`; UserError if one is missing."""
    for problem in problems():
        raise UserError(problem)
    return default_checkout(), default_python()
