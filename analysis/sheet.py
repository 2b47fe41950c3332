"""The summary sheet: scores, profiles, ratios and where they come from, on one page."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import heat, panels, profile_figure, style
from analysis.judgement import Judgement
from analysis.style import FAINT, INK, MUTED, EntryStyle
from analysis.svg import tip
from analysis.texts import count_text, interval_text
from workloads.rulesets import STANDIN

# In inches: a row of few entries and of many, a cell, the least width of a page, and a letter of
# the notes.
_ROOMY, _ROW, _CELL, _LEAST_WIDTH, _NOTE_LETTER = 0.36, 0.25, 0.46, 9.0, 0.056
_FACTORS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("steps_ratio", "steps", {"marker": "o", "markerfacecolor": "white"}),
    ("step_cost_ratio", "seconds per step", {"marker": "x"}),
    ("ratio", "time", {"marker": "D", "markerfacecolor": INK}),
)


def summary_sheet(judged: Judgement, styles: Mapping[str, EntryStyle]) -> Figure:
    """One landscape page, as large as its entries and workloads need.

    Above, a row for each entry: its score, and its time on every workload relative to the
    baseline's. Below, performance profiles, and what times are made of.

    Args:
      judged: the logs' judgement.
      styles: of every submission.
    """
    labels = [panels.shorten(styles[name].label) for name in judged.entries]
    ratios, texts = heat.time_ratios(judged)
    compared = judged.baseline is not None and len(labels) > 1
    cells = _CELL * len(ratios) if compared else 0.0
    high = (_ROOMY if len(labels) <= 4 else _ROW) * len(labels)
    heights = high + 1.2, max(2.3, high) + 0.6
    names = max(panels.inches(label, 8.0) for label in labels)
    wide = max(_LEAST_WIDTH, 2 * names + 3.5, names + 4.0 + cells)
    with style.context(**{"font.size": 8, "axes.titlesize": 9, "axes.titlelocation": "left"}):
        figure = panels.new_figure(wide, sum(heights) + 0.8)
        figure.suptitle(_title(judged), x=0.01, ha="left", fontsize=12)
        notes = textwrap.fill(_footnotes(judged), int((wide - 0.2) / _NOTE_LETTER))
        figure.supxlabel(notes, x=0.01, ha="left", fontsize=7, color=MUTED)
        parts: Any = figure.subfigures(2, 1, height_ratios=heights)
        above, below = parts
        scores, *rest = above.subplots(
            1, 2 if cells else 1, squeeze=False, width_ratios=[2.4, cells] if cells else None
        )[0]
        _draw_scores(scores, judged, labels, [styles[name].color for name in judged.entries])
        if rest:
            heat.draw(rest[0], ratios.T, texts.T, list(ratios.index))
            rest[0].set_yticks([])
            rest[0].set_xlabel(f"time to target / {style.label(judged.baseline or '')}'s")
        lines, *rest = below.subplots(1, 2 if compared else 1, squeeze=False)[0]
        profiles = dict(list(judged.intervals.profiles.groupby("submission")))
        profile_figure.draw_profiles(lines, profiles, judged.entries, styles, bands=False)
        lines.set_title("performance profiles, in the colours of the scores")
        lines.set_xlabel("time to target / the fastest submission's")
        if rest:
            _draw_factors(rest[0], judged, labels)
    return figure


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
        text += " ✗ the median study misses the target; "
        text += "✓ it reaches it where the baseline's misses; – no runs."
        if judged.trials["cut"].any():
            text += " cut: by --max_steps, before the target."
    if any(style.is_published(name) for name in judged.entries):
        text += f" {style.PUBLISHED_MARK} published runs of the leaderboard."
    return text


def _draw_scores(axes: Axes, judged: Judgement, labels: list[str], colors: list[str]) -> None:
    table = judged.intervals.scores.set_index("submission").loc[list(judged.entries)]
    bars = axes.barh(range(len(table)), table["score"], 0.7, color=colors)
    for place, row in enumerate(table.itertuples()):
        ends = interval_text(row.score, row.ci_low, row.ci_high, digits=3)
        bars[place].set_gid(tip(f"{labels[place]}: score {ends}"))
        if not np.isnan(row.ci_low):
            axes.plot([row.ci_low, row.ci_high], [place, place], color=INK, linewidth=1.1)
        panels.write_beside(axes, place, f"{row.score:.3f}  ({row.reached} reached)")
    axes.set_xlim(0, 1)
    panels.name_rows(axes, labels)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(f"score, and targets reached, of {len(judged.rules.base_workloads)}")


def _draw_factors(axes: Axes, judged: Judgement, labels: list[str]) -> None:
    """Geometric means of ratios, over the workloads on which both medians reach the target."""
    ratios = judged.intervals.ratios[judged.intervals.ratios["steps_ratio"].notna()]
    columns = [column for column, _, _ in _FACTORS]
    means = np.exp(np.log(ratios[columns]).groupby(ratios["submission"]).mean())
    means = means.reindex(list(judged.entries))
    means.loc[list(judged.other_steps), ["steps_ratio", "step_cost_ratio"]] = np.nan
    counts = ratios.groupby("submission")[columns].count()
    counts = counts.reindex(list(judged.entries), fill_value=0)
    panels.ratio_axis(axes.xaxis, *panels.span(means.to_numpy().ravel()))
    axes.axvline(1.0, color=INK, linewidth=0.9, zorder=1)
    for place, name in enumerate(judged.entries):
        axes.plot(means.loc[name], [place] * 3, color=FAINT, linewidth=2.5, zorder=1.5)
        steps, costs = counts.loc[name, ["steps_ratio", "step_cost_ratio"]]
        text = f"on {steps}" if steps == costs else f"on {steps}, × on {costs}"
        panels.write_beside(axes, place, text, MUTED)
    for column, label, look in _FACTORS:
        marker: dict[str, Any] = {"linestyle": "none", "markersize": 5, "color": INK, "zorder": 3}
        axes.plot(means[column], range(len(means)), label=label, **(marker | look))
    panels.name_rows(axes, labels)
    axes.legend(ncols=3, fontsize=7, loc="lower left", bbox_to_anchor=(-0.02, 0.99), borderpad=0.0,
                handletextpad=0.1, columnspacing=1.0)  # fmt: skip
    apart = "time, steps, and seconds per step at one dropout rate"
    axes.set_title(apart if judged.dropout else "time = steps × seconds per step", pad=18)
    axes.set_xlabel("geometric mean of ratios, on how many workloads")
