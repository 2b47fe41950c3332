"""The official benchmark on this machine: its checkout, and the Python that runs it.

`make algoperf` makes both. The installed package lacks `submission_runner.py` and the data sets'
set-up, which is why a checkout is needed, too.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from common.cli import UserError
from scripts.local.environment import ROOT
from workloads.official.facts import NEWEST

DIRECTORY = "ALGOPERF_DIR"
INTERPRETER = "ALGOPERF_PYTHON"
RUNNER = "submission_runner.py"
_WORKLOADS = Path("algoperf/workloads")
# v1.0 moved it, since the package `datasets` of Hugging Face is imported by the folder's name.
_SETUPS = ("dataset/dataset_setup.py", "datasets/dataset_setup.py")
_REMEDY = "`make algoperf` makes it"


def default_checkout() -> Path:
    """The checkout's folder, which may be missing: $ALGOPERF_DIR, else that of `make algoperf`."""
    return _place(DIRECTORY, ".algorithmic-efficiency")


def default_python() -> Path:
    """The benchmark's Python, which may be missing: $ALGOPERF_PYTHON, else that of `make`."""
    return _place(INTERPRETER, ".venv-algoperf/bin/python")


def version_of(checkout: Path) -> str:
    """The version of the benchmark that a checkout holds; the newest if there is none.

    Versions are told by their workloads: v1.0 has the language model, v0.6 has not.
    """
    is_older = (checkout / _WORKLOADS).is_dir() and not has(checkout, "finewebedu_lm")
    return "v0.6" if is_older else NEWEST


def has(checkout: Path, workload: str) -> bool:
    """Whether a checkout holds a base workload that has a folder of its name."""
    return (checkout / _WORKLOADS / workload).is_dir()


def setup_script(checkout: Path) -> str:
    """The data sets' set-up below a checkout; where there is none, that of the newest version."""
    return next((script for script in _SETUPS if (checkout / script).is_file()), _SETUPS[0])


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
