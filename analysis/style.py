"""How figures look: one fixed colour per entry, names as people write them, files that repeat."""

import dataclasses
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.figure import Figure

from common import files

# Okabe and Ito's colours, which people with colour-blindness tell apart; a grey blue for AdamW.
Line = Literal["-", "--", "-.", ":"]

_FIXED: dict[str, tuple[str, str, Line, str]] = {
    "shampoo": ("Shampoo", "#D55E00", "-", "o"),
    "adamw": ("AdamW", "#4F6D8C", "--", "s"),
    "nadamw": ("NAdamW", "#009E73", "-.", "^"),
    "nesterov": ("Nesterov SGD", "#CC79A7", ":", "v"),
    "shampoo_jax": ("Shampoo (JAX)", "#E69F00", "-", "D"),
    "adamw_jax": ("AdamW (JAX)", "#56B4E9", "--", "P"),
    "shampoo_self_tuning": ("Shampoo (self-tuning)", "#0072B2", "-", "X"),
}
_OTHERS = ("#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#009E73", "#D55E00", "#000000")
_LINES: tuple[Line, ...] = ("-", "--", "-.", ":")

INK = "#222222"
MUTED = "#767676"
_RC: dict[Any, Any] = {
    "svg.hashsalt": "analysis",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}


@dataclasses.dataclass(frozen=True)
class EntryStyle:
    """One entry's look in every figure of a report."""

    label: str
    color: str
    line: Line
    marker: str


def label(entry: str) -> str:
    """The entry's name as people write it, or as its folder is called.

    >>> label("nadamw"), label("muon")
    ('NAdamW', 'muon')
    """
    return _FIXED[entry][0] if entry in _FIXED else entry


def entry_styles(entries: Iterable[str]) -> dict[str, EntryStyle]:
    """A style per entry; known entries always get their own, others the next one free."""
    styles = {}
    used = {_FIXED[entry][1] for entry in entries if entry in _FIXED}
    free = [color for color in _OTHERS if color not in used] or list(_OTHERS)
    others = 0
    for entry in sorted(entries):
        if entry in _FIXED:
            styles[entry] = EntryStyle(*_FIXED[entry])
            continue
        line = _LINES[others // len(free) % len(_LINES)]
        styles[entry] = EntryStyle(entry, free[others % len(free)], line, "o")
        others += 1
    return styles


def context() -> AbstractContextManager[None]:
    """The settings under which figures are drawn and saved."""
    return matplotlib.rc_context(_RC)


def save(figure: Figure, directory: Path, stem: str) -> list[Path]:
    """Writes `stem`.png (150 dpi) and `stem`.svg; the same figure gives the same bytes."""
    paths = []
    for suffix, options in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
        path = directory / f"{stem}.{suffix}"
        with context(), files.atomic_open(path, "wb") as stream:
            figure.savefig(stream, format=suffix, **options)
        paths.append(path)
    return paths
