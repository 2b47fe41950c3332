"""Performance profiles: the share of workloads on which a submission is near the fastest."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, PercentFormatter

from analysis import panels, style
from analysis.judgement import Judgement
from analysis.style import FAINT, MUTED, EntryStyle
from analysis.texts import count_text

# With more bands than this in one panel, none can be told from the others.
_BANDS_UP_TO = 2
# In inches: of the panel of all, and what is beside it.
_WIDTH, _HEIGHT, _LEFT, _TOP = 3.6, 2.5, 0.6, 0.15
_EACH = panels.Layout(4, 1.32, 1.0, 0.14, 0.3, _LEFT, 0.15, 0.3, _TOP + _HEIGHT + 0.8)


def performance_profiles(judged: Judgement, styles: Mapping[str, EntryStyle]) -> Figure:
    """All profiles in one panel, and beside it a panel with a band for each if there are many.

    Args:
      judged: the logs' judgement.
      styles: of every submission.
    """
    profiles = dict(list(judged.intervals.profiles.groupby("submission")))
    scores = judged.intervals.scores.set_index("submission")
    many = len(judged.entries) > _BANDS_UP_TO
    texts = {name: _score_text(styles[name].label, scores.loc[name]) for name in judged.entries}
    page = _LEFT + _WIDTH + panels.text_inches(texts.values(), 7.5) + 0.75
    with style.context(**{"font.size": 8}):
        if many:
            columns = min(len(judged.entries), _EACH.columns)
            used = _LEFT + columns * (_EACH.width + _EACH.across) - _EACH.across
            layout = dataclasses.replace(_EACH, right=max(_EACH.right, page - used))
            figure, below = panels.grid(len(judged.entries), layout)
            _draw_each(below, judged.entries, profiles, styles)
        else:
            figure = Figure(figsize=(page, _TOP + _HEIGHT + 0.5))
        width, height = figure.get_size_inches()
        corner = panels.place(figure, _LEFT, -_TOP - _HEIGHT)
        axes = figure.add_axes((*corner, _WIDTH / width, _HEIGHT / height))
        draw_profiles(axes, profiles, judged.entries, styles, bands=not many)
        for line, name in zip(axes.lines, judged.entries, strict=True):
            line.set_label(texts[name])
        axes.legend(
            title=f"score [95%], {count_text(scores['studies'], 'study', 'studies')}",
            loc="upper left",
            bbox_to_anchor=(1.02, 1.02),
            fontsize=7.5,
            title_fontsize=7.5,
            alignment="left",
        )
        bases = len(judged.profile.ratios)
        axes.set_ylabel(f"share of {bases} workloads")
        axes.set_xlabel("time to target / the fastest submission's")
    return figure


def draw_profiles(
    axes: Axes,
    profiles: Mapping[str, pd.DataFrame],
    entries: Sequence[str],
    styles: Mapping[str, EntryStyle],
    *,
    bands: bool,
) -> None:
    """One line for every entry, with its interval if `bands`."""
    for name in entries:
        look, rows = styles[name], profiles[name]
        axes.plot(
            *(rows["tau"], rows["rho"]),
            color=look.color,
            linestyle=look.line,
            linewidth=1.6,
            drawstyle="steps-post",
            clip_on=False,
        )
        if bands:
            _draw_band(axes, rows, look.color)
    _frame(axes)


def _draw_each(
    made: Sequence[Axes],
    entries: Sequence[str],
    profiles: Mapping[str, pd.DataFrame],
    styles: Mapping[str, EntryStyle],
) -> None:
    """A panel for every entry with its band, before the others in grey."""
    for axes, name in zip(made, entries, strict=True):
        for other in entries:
            rows = profiles[other]
            look: dict[str, Any] = {"color": FAINT, "linewidth": 0.6, "zorder": 1}
            axes.plot(rows["tau"], rows["rho"], drawstyle="steps-post", **look)
        rows = profiles[name]
        _draw_band(axes, rows, styles[name].color)
        axes.plot(
            *(rows["tau"], rows["rho"]),
            color=styles[name].color,
            linewidth=1.6,
            drawstyle="steps-post",
            clip_on=False,
        )
        panels.write_above(axes, styles[name].label, room=_EACH.across / 2)
        _frame(axes)


def _draw_band(axes: Axes, rows: pd.DataFrame, color: str) -> None:
    ends = rows["ci_low"], rows["ci_high"]
    axes.fill_between(rows["tau"], *ends, step="post", color=color, alpha=0.18, linewidth=0)


def _frame(axes: Axes) -> None:
    axes.set_xlim(1, 4)
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(FixedLocator([1, 2, 3, 4]))
    axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7, color=MUTED)


def _score_text(label: str, row: pd.Series) -> str:
    if pd.isna(row["ci_low"]):
        return f"{label}  {row['score']:.3f}"
    return f"{label}  {row['score']:.3f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
