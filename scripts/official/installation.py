"""Where the official benchmark is on this machine: its checkout, and the Python that runs it.

`make algoperf` makes both. The installed package lacks `submission_runner.py` and
`datasets/dataset_setup.py`, which is why a checkout is needed, too.
"""

import os
from pathlib import Path

from common.cli import UserError
from scripts.local.environment import ROOT

DIRECTORY = "ALGOPERF_DIR"
INTERPRETER = "ALGOPERF_PYTHON"
RUNNER = "submission_runner.py"
_REMEDY = "`make algoperf` makes it"


def default_checkout() -> Path:
    """The checkout's folder, which may be missing: $ALGOPERF_DIR, else that of `make algoperf`."""
    given = os.environ.get(DIRECTORY)
    return Path(given).expanduser().absolute() if given else ROOT / ".algorithmic-efficiency"


def default_python() -> Path:
    """The benchmark's Python, which may be missing: $ALGOPERF_PYTHON, else that of `make`."""
    given = os.environ.get(INTERPRETER)
    # A virtual environment's python is a link that must not be resolved.
    return Path(given).expanduser().absolute() if given else ROOT / ".venv-algoperf/bin/python"


def checkout() -> Path:
    """The benchmark's checkout, absolute; UserError if it is not there."""
    directory = default_checkout()
    if not (directory / RUNNER).is_file():
        raise UserError(f"no {RUNNER} in {directory}: {_REMEDY}, or set ${DIRECTORY}")
    return directory


def python() -> Path:
    """The Python that has `algoperf`, absolute; UserError if it is not there."""
    interpreter = default_python()
    if not interpreter.is_file() or not os.access(interpreter, os.X_OK):
        raise UserError(f"no Python at {interpreter}: {_REMEDY}, or set ${INTERPRETER}")
    return interpreter
