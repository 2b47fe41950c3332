"""Runs the notebooks, and shows figures and sentences in them.

A notebook is text in `analysis/notebooks/`, and with its outputs an `.ipynb`, paired by Jupytext.

python -m analysis.notebook [--notebooks=leaderboard]
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pandas as pd
from absl import flags
from IPython.display import Image, Markdown
from IPython.display import display as put
from matplotlib.figure import Figure
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from analysis import style
from common import cli, documents, files, progress
from common.cli import UserError

FOLDER = Path(__file__).parent
TEXTS = FOLDER / "notebooks"
PAIRING = "ipynb,notebooks//py:percent"

_PARAMETERS = "parameters"
_CELL_SECONDS = 300


def show(figure: Figure | None) -> None:
    """Shows a figure as a picture; nothing where there is nothing to draw."""
    if figure is not None:
        put(Image(style.png(figure)))


def say(text: str) -> None:
    """Shows Markdown."""
    put(Markdown(text))


def bullets(lines: Iterable[str]) -> None:
    """Shows sentences as a list."""
    say("\n".join(f"- {line}" for line in lines))


def table(rows: pd.DataFrame, left: int = 1) -> None:
    """Shows a table of texts and numbers, the first `left` columns aligned left."""
    say(documents.table(rows.astype(str).to_dict("records"), fmt="pipe", left=left))


def names() -> list[str]:
    """The notebooks' names."""
    return sorted(path.stem for path in TEXTS.glob("*.py"))


def read_text(name: str) -> NotebookNode:
    """A notebook without outputs."""
    notebook = jupytext.read(TEXTS / f"{name}.py", fmt="py:percent")
    # Jupytext invents new cell names each time, which would make every file differ.
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{name}-{number}"
    notebook.metadata["jupytext"] = {"formats": PAIRING}
    return notebook


def execute(name: str, parameters: Mapping[str, Any] | None = None) -> NotebookNode:
    """Runs a notebook from its text, in a new kernel, and returns it with its outputs.

    `jupytext --execute` needs nbconvert for this, which nothing else here needs, and writes the
    times of each run into the notebook.

    Args:
      name: the notebook.
      parameters: other values for what its cell tagged `parameters` defines.

    Raises:
      UserError: for an unknown parameter, or if a cell fails; then with the cell's error.
    """
    notebook = read_text(name)
    for key, value in (parameters or {}).items():
        tagged = [cell for cell in notebook.cells if _PARAMETERS in cell.metadata.get("tags", [])]
        if f"\n{key} = " not in f"\n{tagged[0].source}":
            raise UserError(f"notebook {name} has no parameter {key!r}")
        tagged[0].source += f"\n{key} = {value!r}"
    client = NotebookClient(
        notebook,
        timeout=_CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        # The kernel warns of its transport on every start.
        extra_arguments=["--log-level=40"],
        resources={"metadata": {"path": str(FOLDER)}},
    )
    client.log.setLevel(logging.WARNING)
    try:
        client.execute()
    except CellExecutionError as error:
        raise UserError(f"notebook {name}: {error.ename}: {error.evalue}") from error
    return notebook


def main(argv: Sequence[str]) -> None:
    """Runs the notebooks that the flags name, and writes them with their outputs."""
    del argv
    chosen = cli.names("notebooks", flags.FLAGS.notebooks or names(), names())
    with progress.bar(len(chosen), "running", "notebooks") as bar:
        for name in chosen:
            path = FOLDER / f"{name}.ipynb"
            files.write_text(path, nbformat.writes(execute(name)).rstrip("\n") + "\n")
            bar.update()
            print(path)


if __name__ == "__main__":
    flags.DEFINE_list("notebooks", None, "which ones (default: all)")
    cli.run(main)
