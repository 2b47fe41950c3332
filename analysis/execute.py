"""Runs the notebooks: each is text in `analysis/notebooks/`, and with its outputs an `.ipynb`.

python -m analysis.execute [--notebooks=leaderboard,step_cost]
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from absl import flags
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from common import cli, files, progress
from common.cli import UserError

HERE = Path(__file__).parent
TEXTS = HERE / "notebooks"
# How Jupytext finds the one from the other.
PAIRING = "ipynb,notebooks//py:percent"

_PARAMETERS = "parameters"
_CELL_SECONDS = 300


def names() -> list[str]:
    """The notebooks' names."""
    return sorted(path.stem for path in TEXTS.glob("*.py"))


def read_text(name: str) -> NotebookNode:
    """A notebook without outputs, as its text is.

    Raises:
      UserError: for an unknown name.
    """
    if name not in names():
        raise UserError(f"unknown notebook {name!r}; known: {', '.join(names())}")
    notebook = jupytext.read(TEXTS / f"{name}.py", fmt="py:percent")
    # Jupytext makes up new names for cells each time; outputs should only differ where they do.
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{name}-{number}"
    notebook.metadata["jupytext"] = {"formats": PAIRING}
    return notebook


def execute(name: str, parameters: Mapping[str, Any] | None = None) -> NotebookNode:
    """Runs a notebook from its text, in a new kernel, and returns it with its outputs.

    Args:
      name: the notebook.
      parameters: other values for what its cell tagged `parameters` defines.

    Raises:
      UserError: for an unknown name or parameter, or if a cell fails; then with the cell's error.
    """
    notebook = read_text(name)
    if parameters:
        _override(notebook, name, parameters)
    client = NotebookClient(
        notebook,
        timeout=_CELL_SECONDS,
        kernel_name="python3",
        # Times would make every run differ.
        record_timing=False,
        # The kernel warns of its transport on every start.
        extra_arguments=["--log-level=40"],
        resources={"metadata": {"path": str(HERE)}},
    )
    client.log.setLevel(logging.WARNING)
    try:
        client.execute()
    except CellExecutionError as error:
        raise UserError(f"notebook {name}: {error.ename}: {error.evalue}") from error
    return notebook


def _override(notebook: NotebookNode, name: str, parameters: Mapping[str, Any]) -> None:
    tagged = [cell for cell in notebook.cells if _PARAMETERS in cell.metadata.get("tags", [])]
    defined = "\n".join(cell.source for cell in tagged)
    for key in parameters:
        if f"\n{key} = " not in f"\n{defined}":
            raise UserError(f"notebook {name} has no parameter {key!r}")
    lines = [f"{key} = {value!r}" for key, value in parameters.items()]
    tagged[-1]["source"] += "\n" + "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    del argv
    chosen = flags.FLAGS.notebooks or names()
    for name in chosen:
        read_text(name)
    with progress.bar(len(chosen), "running", "notebooks") as bar:
        for name in chosen:
            path = HERE / f"{name}.ipynb"
            text = nbformat.writes(execute(name))
            files.write_text(path, text if text.endswith("\n") else f"{text}\n")
            bar.update()
            print(path)


if __name__ == "__main__":
    flags.DEFINE_list("notebooks", None, "which ones (default: all)")
    cli.run(main)
