"""The summary sheet: scores, profiles, ratios and where they come from, on one page."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import heat, panels, profile_figure, style
from analysis.judgement import Judgement
from analysis.style import FAINT, INK, MUTED, EntryStyle
from analysis.texts import count_text
from workloads.rulesets import STANDIN

_PAGE = (11.7, 8.3)
# The most room for a name, in inches.
_LABEL = 1.5
_FACTORS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("steps_ratio", "steps", {"marker": "o", "markerfacecolor": "white"}),
    ("step_cost_ratio", "seconds per step", {"marker": "x"}),
    ("ratio", "time", {"marker": "D", "markerfacecolor": INK}),
)


def summary_sheet(judged: Judgement, styles: Mapping[str, EntryStyle]) -> Figure:
    """One landscape page, A4.

    Args:
      judged: the logs' judgement.
      styles: of every submission.
    """
    labels = [panels.shorten(styles[name].label, _LABEL, 8) for name in judged.entries]
    names = panels.text_inches(labels, 8) + 0.12
    with style.context(**{"font.size": 8, "axes.titlesize": 9, "axes.titlelocation": "left"}):
        figure = Figure(figsize=_PAGE)
        figure.text(*panels.place(figure, 0.3, -0.35), _title(judged), fontsize=12)
        notes = _footnotes(judged)
        figure.text(*panels.place(figure, 0.3, 0.12), notes, fontsize=7, color=MUTED)
        # Rows no higher than need be, from the top of their half of the page.
        high = min(2.35, 0.55 * len(labels) + 0.1)
        scores = _axes(figure, 0.3 + names, 7.4 - high, 5.2 - names, high)
        _scores(scores, judged, labels, [styles[name].color for name in judged.entries])
        profiles = dict(list(judged.intervals.profiles.groupby("submission")))
        axes = _axes(figure, 7.3, 5.05, 4.1, 2.35)
        profile_figure.draw_profiles(axes, profiles, judged.entries, styles, bands=False)
        axes.set_title("performance profiles")
        axes.set_xlabel("time to target / the fastest submission's")
        if judged.baseline is not None and len(judged.entries) > 1:
            _ratios(figure, judged, labels)
            factors = _axes(figure, 7.1 + names, 3.3 - high, 4.2 - names, high)
            _factors(factors, judged, labels)
    return figure


def _axes(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Axes placed in inches from the page's left and bottom."""
    corner = panels.place(figure, x, y)
    return figure.add_axes((*corner, width / _PAGE[0], height / _PAGE[1]))


def _title(judged: Judgement) -> str:
    rules = judged.rules
    if rules.version == STANDIN:
        return "Stand-in workloads, scored by AlgoPerf's rules (not AlgoPerf results)"
    return f"AlgoPerf {rules.version}, {rules.name.replace('_', '-')} tuning ruleset"


def _footnotes(judged: Judgement) -> str:
    counts = count_text(judged.cells["studies"], "study", "studies")
    text = f"Medians over {counts}; 95% intervals by bootstrap over studies."
    if judged.baseline is not None:
        text += f" Ratios are to {style.label(judged.baseline)}'s; below 1 is better."
        text += "\n✗ the median study misses the target; "
        text += "✓ it reaches it where the baseline's misses; – no runs."
    if any(style.is_published(name) for name in judged.entries):
        text += f" {style.PUBLISHED_MARK} published runs of the leaderboard."
    return text


def _scores(axes: Axes, judged: Judgement, labels: list[str], colors: list[str]) -> None:
    table = judged.intervals.scores.set_index("submission").loc[list(judged.entries)]
    places = np.arange(len(table))
    axes.barh(places, table["score"], 0.7, color=colors)
    for place, row in zip(places, table.itertuples(), strict=True):
        if not np.isnan(row.ci_low):
            axes.plot([row.ci_low, row.ci_high], [place, place], color=INK, linewidth=1.1)
        panels.write_beside(axes, float(place), f"{row.score:.3f}  ({row.reached} reached)")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_yticks(places, labels)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(f"score, and how many of {len(judged.profile.ratios)} targets are reached")


def _ratios(figure: Figure, judged: Judgement, labels: list[str]) -> None:
    ratios, texts = heat.time_ratios(judged)
    if ratios.empty:
        return
    left = 0.4 + panels.text_inches(list(ratios.index), 8)
    slope = 0.71 * panels.text_inches(labels, 8)
    width = min(6.8 - left - slope, 0.7 * len(labels))
    height = min(0.3 * len(ratios), 2.7)
    heat.draw(_axes(figure, left, 3.3 - height, width, height), ratios, texts, labels)
    title = panels.place(figure, 0.3, 3.45 + slope)
    figure.text(*title, f"time to target / {style.label(judged.baseline or '')}'s", size=9)


def _factors(axes: Axes, judged: Judgement, labels: list[str]) -> None:
    """Geometric means of ratios, over the workloads on which both medians reach the target."""
    ratios = judged.intervals.ratios
    means = pd.DataFrame(
        {
            column: np.exp(np.log(ratios[column].where(ratios["steps_ratio"].notna())))
            for column, _, _ in _FACTORS
        }
    )
    means = np.log(means).groupby(ratios["submission"]).mean().pipe(np.exp)
    means.loc[list(judged.other_steps), ["steps_ratio", "step_cost_ratio"]] = np.nan
    counts = ratios[ratios["steps_ratio"].notna()].groupby("submission").size()
    limits = panels.span(means.to_numpy().ravel().tolist(), most=(8.0, 8.0))
    panels.ratio_axis(axes.xaxis, *limits)
    axes.axvline(1.0, color=INK, linewidth=0.9, zorder=1)
    for place, name in enumerate(judged.entries):
        row = means.loc[name]
        axes.plot(row.to_list(), [place] * 3, color=FAINT, linewidth=2.5, zorder=1.5)
        panels.write_beside(axes, place, f"on {counts.get(name, 0)}", MUTED)
    for column, label, look in _FACTORS:
        values = means.loc[list(judged.entries), column]
        style_of: dict[str, Any] = {"linestyle": "none", "markersize": 5, "color": INK, "zorder": 3}
        axes.plot(values, np.arange(len(values)), label=label, **(style_of | look))
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    where: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.02, 0.99), "borderpad": 0.0}
    axes.legend(ncols=3, fontsize=7, handletextpad=0.1, columnspacing=1.0, **where)
    axes.set_title("time = steps × seconds per step", pad=18, x=-0.2)
    axes.set_xlabel("geometric mean of ratios, on how many workloads")
