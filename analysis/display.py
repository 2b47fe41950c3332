"""Figures, sentences and tables in a notebook's output."""

from collections.abc import Iterable
from typing import Any

import pandas as pd
from IPython.display import Image, Markdown
from IPython.display import display as put
from matplotlib.figure import Figure
from tabulate import tabulate

from analysis import style


def show(figure: Figure | None) -> None:
    """A figure as a picture; nothing where there is nothing to draw."""
    if figure is not None:
        put(Image(style.png(figure)))


def say(text: str) -> None:
    """Markdown."""
    put(Markdown(text))


def bullets(lines: Iterable[str]) -> None:
    """Sentences as a list."""
    say("\n".join(f"- {line}" for line in lines))


def table(rows: pd.DataFrame, **settings: Any) -> None:
    """A table with its columns' names; `settings` are of `tabulate`."""
    say(tabulate(rows, headers="keys", tablefmt="pipe", **settings))
