"""Runs the notebook again, and shows figures and sentences in it.

python -m analysis.notebook
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import nbformat
import pandas as pd
from IPython.display import Image, Markdown
from IPython.display import display as put
from matplotlib.figure import Figure
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from analysis import style
from common import cli, documents, files
from common.cli import UserError

NOTEBOOK = Path(__file__).with_name("leaderboard.ipynb")

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


def read() -> NotebookNode:
    """The committed notebook."""
    return nbformat.read(NOTEBOOK, as_version=4)


def execute(notebook: NotebookNode) -> None:
    """Runs a notebook in a new kernel; its outputs become those of this run.

    `jupyter execute` would write the times of each run into it.

    Raises:
      UserError: a cell fails; with the cell's error.
    """
    client = NotebookClient(
        notebook,
        timeout=_CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        # The kernel warns of its transport on every start.
        extra_arguments=["--log-level=40"],
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    client.log.setLevel(logging.WARNING)
    try:
        client.execute()
    except CellExecutionError as error:
        raise UserError(f"{NOTEBOOK.name}: {error.ename}: {error.evalue}") from error


def main(argv: Sequence[str]) -> None:
    """Runs the notebook and writes it with its outputs."""
    del argv
    notebook = read()
    execute(notebook)
    files.write_text(NOTEBOOK, nbformat.writes(notebook).rstrip("\n") + "\n")
    print(NOTEBOOK)


if __name__ == "__main__":
    cli.run(main)
