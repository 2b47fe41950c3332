"""How figures look: fixed colours per entry and per workload, names as people write them."""

import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from analysis import svg
from common import files
from workloads.facts import WorkloadFacts

Line = Literal["-", "--", "-.", ":"]

# Okabe and Ito's colours, which people with colour-blindness tell apart, and three of Tol's muted
# ones; a grey blue for AdamW. Where a colour comes twice, the line differs.
_FIXED: dict[str, tuple[str, str, Line, str]] = {
    "shampoo": ("Shampoo", "#D55E00", "-", "o"),
    "adamw": ("AdamW", "#4F6D8C", "--", "s"),
    "nadamw": ("NAdamW", "#009E73", "-.", "^"),
    "nesterov": ("Nesterov SGD", "#CC79A7", ":", "v"),
    "shampoo_jax": ("Shampoo (JAX)", "#E69F00", "-", "D"),
    "adamw_jax": ("AdamW (JAX)", "#56B4E9", "--", "P"),
    "nadamw_jax": ("NAdamW (JAX)", "#CC79A7", "-.", "<"),
    "shampoo_self_tuning": ("Shampoo (self-tuning)", "#0072B2", "-", "X"),
    "shampoo_jax_self_tuning": ("Shampoo (JAX, self-tuning)", "#882255", "-", "h"),
    # The league's other entries, and rivals' implementations.
    "shampoo_ema": ("Shampoo + EMA", "#D55E00", "--", "X"),
    "soap": ("SOAP", "#E69F00", "--", "D"),
    "kl_shampoo": ("KL-Shampoo", "#882255", "-", "p"),
    "published_winner": ("Shampoo (2024 winner's settings)", "#D55E00", ":", "P"),
    "muon_adamw": ("Muon with AdamW", "#009E73", "--", "h"),
    "adamw_ema": ("AdamW + EMA", "#4F6D8C", ":", "X"),
    "meta_shampoo": ("Meta's Shampoo", "#D55E00", "-.", "<"),
    "meta_soap": ("Meta's SOAP", "#E69F00", ":", ">"),
    "meta_kl_shampoo": ("Meta's KL-Shampoo", "#882255", "--", "<"),
    "hb_soap": ("HeavyBall's SOAP", "#8A8A2E", "--", ">"),
    "po_soap": ("pytorch_optimizer's SOAP", "#56B4E9", "-.", "v"),
    # As they are handed in.
    "stacked_shampoo": ("Stacked Shampoo", "#D55E00", "--", "D"),
    "stacked_shampoo_self_tuning": ("Stacked Shampoo (self-tuning)", "#0072B2", "-.", "X"),
    "stacked_shampoo_jax": ("Stacked Shampoo (JAX)", "#E69F00", "--", "P"),
    "stacked_shampoo_jax_self_tuning": ("Stacked Shampoo (JAX, self-tuning)", "#882255", "-.", "h"),
    # Submissions of the published leaderboards.
    "shampoo_submission": ("Distributed Shampoo", "#D55E00", "-", "o"),
    "baseline": ("Baseline NAdamW", "#222222", "--", "s"),
    "schedule_free_adamw": ("Schedule-Free AdamW", "#0072B2", "-", "D"),
    "schedule_free_adamw_v2": ("Schedule-Free AdamW v2", "#0072B2", "--", "D"),
    "generalized_adam": ("Generalized Adam", "#009E73", "-", "^"),
    "cyclic_lr": ("Cyclic LR", "#CC79A7", "-", "v"),
    "nadamp": ("NadamP", "#E69F00", "-", "P"),
    "nadamw_sequential": ("NAdamW Sequential", "#E69F00", "-.", "^"),
    "amos": ("Amos", "#56B4E9", "-", "X"),
    "caspr_adaptive": ("CASPR Adaptive", "#882255", "-.", "p"),
    "lawa_queue": ("LAWA Queue", "#8A8A2E", "-", "<"),
    "lawa_ema": ("LAWA EMA", "#8A8A2E", ":", ">"),
    "schedule_free_prodigy": ("Schedule-Free Prodigy", "#0072B2", ":", "h"),
    "sinv6": ("Sinv6", "#CC79A7", "--", "v"),
    "sinv6_75": ("Sinv6 75", "#56B4E9", "--", "<"),
    "adamg": ("AdamG", "#882255", ":", "p"),
}
_LINES: tuple[Line, ...] = ("-", "--", "-.", ":")
_COLORS = (
    *("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#882255", "#8A8A2E"),
    *("#4F6D8C", "#222222"),
)
_WORKLOAD_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">")
_PUBLISHED = " (published)"
PUBLISHED_MARK = "†"

INK = "#222222"
MUTED = "#767676"
FAINT = "#DDDDDD"
_RC: dict[Any, Any] = {
    "svg.hashsalt": "analysis",
    # Text stays text, in letters as wide on machines without the first font.
    "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}
_MARGIN_INCHES = 0.08
_SAVED: dict[str, dict[str, Any]] = {"png": {"dpi": 150}, "svg": {"metadata": {"Date": None}}}


@dataclasses.dataclass(frozen=True)
class EntryStyle:
    """One entry's look in every figure of a report."""

    label: str
    color: str
    line: Line
    marker: str


@dataclasses.dataclass(frozen=True)
class WorkloadStyle:
    """One workload's look where every point is a workload; hollow for a variant of another."""

    color: str
    marker: str
    hollow: bool


def published_name(entry: str) -> str:
    """What a submission of the published leaderboard is called beside one's own.

    >>> label(published_name("baseline"))
    'Baseline NAdamW †'
    """
    return entry + _PUBLISHED


def is_published(entry: str) -> bool:
    """Whether a name is one of `published_name`."""
    return entry.endswith(_PUBLISHED)


def label(entry: str) -> str:
    """The entry's name as people write it, or as its folder is called.

    >>> label("nadamw"), label("muon")
    ('NAdamW', 'muon')
    """
    if is_published(entry):
        return f"{label(entry.removesuffix(_PUBLISHED))} {PUBLISHED_MARK}"
    return _FIXED[entry][0] if entry in _FIXED else entry


def entry_styles(entries: Iterable[str]) -> dict[str, EntryStyle]:
    """A style per entry; known entries always get their own, others the next one free.

    A published submission has its own too, unless one of the other entries looks like that.
    """
    entries = sorted(entries, key=lambda entry: (is_published(entry), entry))
    styles: dict[str, EntryStyle] = {}
    unknown: list[str] = []
    for entry in entries:
        known = _FIXED.get(entry.removesuffix(_PUBLISHED))
        taken = {look.color for name, look in styles.items() if not is_published(name)}
        if known is None or (is_published(entry) and known[1] in taken):
            unknown.append(entry)
        else:
            styles[entry] = EntryStyle(label(entry), *known[1:])
    used = {look.color for look in styles.values()}
    free = [color for color in _COLORS[:8] if color not in used] or list(_COLORS[:8])
    for place, entry in enumerate(unknown):
        line = _LINES[place // len(free) % len(_LINES)]
        styles[entry] = EntryStyle(label(entry), free[place % len(free)], line, "o")
    return styles


def workload_styles(facts: Mapping[str, WorkloadFacts]) -> dict[str, WorkloadStyle]:
    """A colour and a marker per base workload, which its variants share."""
    bases = list(dict.fromkeys(row.base or name for name, row in facts.items()))
    styles = {}
    for name, row in facts.items():
        place = bases.index(row.base or name)
        color = _COLORS[place % len(_COLORS)]
        marker = _WORKLOAD_MARKERS[place % len(_WORKLOAD_MARKERS)]
        styles[name] = WorkloadStyle(color, marker, bool(row.base))
    return styles


def context(**settings: Any) -> AbstractContextManager[None]:
    """The settings under which figures are drawn and saved, with others for one figure."""
    return matplotlib.rc_context(_RC | settings)


def png(figure: Figure) -> bytes:
    """The figure as a small picture, in a palette of its own, to show in a notebook."""
    stream, small = io.BytesIO(), io.BytesIO()
    page = _lay_out(figure)
    with context():
        figure.savefig(stream, format="png", dpi=110, bbox_inches=page)
    # Few colours are enough for lines and bars, and notebooks are kept under version control.
    with Image.open(stream) as image:
        image.convert("RGB").quantize(128).save(small, format="png", optimize=True)
    return small.getvalue()


def save(
    figure: Figure, directory: Path, stem: str, formats: Sequence[str] = ("png", "svg")
) -> list[Path]:
    """Writes `stem`.png (150 dpi) and `stem`.svg; the same figure gives the same bytes."""
    paths = []
    page = _lay_out(figure)
    for suffix in formats:
        path, drawn = directory / f"{stem}.{suffix}", io.BytesIO()
        with context():
            figure.savefig(drawn, format=suffix, bbox_inches=page, **_SAVED[suffix])
        content = drawn.getvalue()
        if suffix == "svg":
            content = svg.with_titles(content.decode()).encode()
        with files.atomic_open(path, "wb") as stream:
            stream.write(content)
        paths.append(path)
    return paths


def _lay_out(figure: Figure) -> Bbox:
    """Arranges the figure and returns the page, in inches, which ends where the content does.

    Each draw would arrange it again, which takes most of the time.
    """
    with context():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        page = figure.get_tightbbox()
    return page.padded(_MARGIN_INCHES)
