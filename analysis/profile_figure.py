"""Performance profiles: the share of workloads on which a submission is near the fastest."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, PercentFormatter

from analysis import panels, style
from analysis.judgement import Judgement
from analysis.style import FAINT, MUTED, EntryStyle
from analysis.svg import tip
from analysis.texts import count_text

# With more bands than this in one panel, none can be told from the others.
_BANDS_UP_TO = 2
_COLUMNS = 4
# As many fit above a panel.
_LETTERS = 23


def performance_profiles(judged: Judgement, styles: Mapping[str, EntryStyle]) -> Figure:
    """All profiles in one panel; below it, a panel with a band for each if there are many.

    Args:
      judged: the logs' judgement.
      styles: of every submission.
    """
    profiles = dict(list(judged.intervals.profiles.groupby("submission")))
    scores = judged.intervals.scores.set_index("submission")
    many = len(judged.entries) > _BANDS_UP_TO
    rows = math.ceil(len(judged.entries) / _COLUMNS) if many else 0
    with style.context(**{"font.size": 8}):
        figure = panels.new_figure(7.2, 3.1 + 1.35 * rows)
        parts: Any = [figure]
        if many:
            parts = figure.subfigures(2, 1, height_ratios=[3.1, 1.35 * rows])
        axes = parts[0].subplots()
        draw_profiles(axes, profiles, judged.entries, styles, bands=not many)
        for line, name in zip(axes.lines, judged.entries, strict=True):
            line.set_label(_score_text(styles[name].label, scores.loc[name]))
        axes.set_ylabel(f"share of {len(judged.rules.base_workloads)} workloads")
        axes.set_xlabel("time to target / the fastest submission's")
        studies = count_text(scores["studies"], "study", "studies")
        look = {"fontsize": 7.5, "title_fontsize": 7.5, "alignment": "left", "borderpad": 1.6}
        parts[0].legend(title=f"score [95%], {studies}", loc="outside right upper", **look)
        if many:
            made = panels.grid(parts[1], len(judged.entries), _COLUMNS)
            for axes, name in zip(made, judged.entries, strict=True):
                for other in judged.entries:
                    _draw_profile(axes, profiles[other], color=FAINT, linewidth=0.6, zorder=1)
                draw_profiles(axes, profiles, [name], styles, bands=True)
                panels.write_title(axes, styles[name].label, letters=_LETTERS)
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
        _draw_profile(
            axes, rows, color=look.color, linestyle=look.line, linewidth=1.6, clip_on=False,
            gid=tip(look.label),
        )  # fmt: skip
        if bands:
            ends = rows["ci_low"], rows["ci_high"]
            band: dict[str, Any] = {"color": look.color, "alpha": 0.18, "linewidth": 0}
            axes.fill_between(rows["tau"], *ends, step="post", **band)
    axes.set_xlim(1, 4)
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(FixedLocator([1, 2, 3, 4]))
    axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7, color=MUTED)


def _draw_profile(axes: Axes, rows: pd.DataFrame, **look: Any) -> None:
    axes.plot(rows["tau"], rows["rho"], drawstyle="steps-post", **look)


def _score_text(label: str, row: pd.Series) -> str:
    if pd.isna(row["ci_low"]):
        return f"{label}  {row['score']:.3f}"
    return f"{label}  {row['score']:.3f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
