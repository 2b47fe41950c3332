"""The summary sheet: scores, profiles, ratios and where they come from, on one page."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import heat, panels, profile_figure, style
from analysis.judgement import Judgement
from analysis.style import FAINT, INK, MUTED, EntryStyle
from analysis.texts import count_text
from workloads.rulesets import STANDIN

_FACTORS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("steps_ratio", "steps", {"marker": "o", "markerfacecolor": "white"}),
    ("step_cost_ratio", "seconds per step", {"marker": "x"}),
    ("ratio", "time", {"marker": "D", "markerfacecolor": INK}),
)


def summary_sheet(judged: Judgement, styles: Mapping[str, EntryStyle]) -> Figure:
    """One landscape page, as large as its entries and workloads need.

    Args:
      judged: the logs' judgement.
      styles: of every submission.
    """
    entries = len(judged.entries)
    labels = [styles[name].label for name in judged.entries]
    compared = judged.baseline is not None and entries > 1
    ratios, texts = heat.time_ratios(judged)
    # Inches of the upper and the lower half.
    high = [max(0.23 * entries + 0.8, 2.6)]
    high += [max(0.22 * len(ratios) + 1.8, 0.23 * entries + 1.1, 2.9)] if compared else []
    wide = [max(6.4, 0.4 * entries + 2.4), 5.3]
    names: list[Any] = [["scores", "profiles"], *([["ratios", "factors"]] if compared else [])]
    settings = {"font.size": 8, "axes.titlesize": 9, "axes.titlelocation": "left"}
    with style.context(**settings):
        figure = panels.new_figure(sum(wide), sum(high) + 0.9, space=0.05)
        figure.suptitle(_title(judged), x=0.01, ha="left", fontsize=12)
        notes = _footnotes(judged)
        figure.supxlabel(notes, x=0.01, ha="left", fontsize=7, color=MUTED)
        axes = figure.subplot_mosaic(names, width_ratios=wide, height_ratios=high)
        _draw_scores(
            axes["scores"], judged, labels, [styles[name].color for name in judged.entries]
        )
        profiles = dict(list(judged.intervals.profiles.groupby("submission")))
        profile_figure.draw_profiles(
            axes["profiles"], profiles, judged.entries, styles, bands=False
        )
        axes["profiles"].set_title("performance profiles")
        axes["profiles"].set_xlabel("time to target / the fastest submission's")
        if compared:
            _draw_factors(axes["factors"], judged, labels)
            if ratios.empty:
                axes["ratios"].remove()
            else:
                heat.draw(axes["ratios"], ratios, texts, labels)
                title = f"time to target / {style.label(judged.baseline or '')}'s"
                axes["ratios"].set_title(title)
                # Cells of a small table would fill the page.
                axes["ratios"].set_xlim(-0.5, max(entries, 9) - 0.5)
                axes["ratios"].set_ylim(max(len(ratios), 8) - 0.5, -0.5)
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
        text += "\n✗ the median study misses the target; "
        text += "✓ it reaches it where the baseline's misses; – no runs."
        if judged.trials["cut"].any():
            text += " cut: by --max_steps, before the target."
    if any(style.is_published(name) for name in judged.entries):
        text += f" {style.PUBLISHED_MARK} published runs of the leaderboard."
    return text


def _draw_scores(axes: Axes, judged: Judgement, labels: list[str], colors: list[str]) -> None:
    table = judged.intervals.scores.set_index("submission").loc[list(judged.entries)]
    axes.barh(range(len(table)), table["score"], 0.7, color=colors)
    for place, row in enumerate(table.itertuples()):
        if not np.isnan(row.ci_low):
            axes.plot([row.ci_low, row.ci_high], [place, place], color=INK, linewidth=1.1)
        panels.write_beside(axes, place, f"{row.score:.3f}  ({row.reached} reached)")
    axes.set_xlim(0, 1)
    panels.name_rows(axes, labels)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(f"score, and how many of {len(judged.rules.base_workloads)} targets are reached")


def _draw_factors(axes: Axes, judged: Judgement, labels: list[str]) -> None:
    """Geometric means of ratios, over the workloads on which both medians reach the target."""
    ratios = judged.intervals.ratios[judged.intervals.ratios["steps_ratio"].notna()]
    columns = [column for column, _, _ in _FACTORS]
    means = np.exp(np.log(ratios[columns]).groupby(ratios["submission"]).mean())
    means = means.reindex(list(judged.entries))
    means.loc[list(judged.other_steps), ["steps_ratio", "step_cost_ratio"]] = np.nan
    counts = ratios.groupby("submission").size()
    panels.ratio_axis(axes.xaxis, *panels.span(means.to_numpy().ravel()))
    axes.axvline(1.0, color=INK, linewidth=0.9, zorder=1)
    for place, name in enumerate(judged.entries):
        axes.plot(means.loc[name], [place] * 3, color=FAINT, linewidth=2.5, zorder=1.5)
        panels.write_beside(axes, place, f"on {counts.get(name, 0)}", MUTED)
    for column, label, look in _FACTORS:
        marker: dict[str, Any] = {"linestyle": "none", "markersize": 5, "color": INK, "zorder": 3}
        axes.plot(means[column], range(len(means)), label=label, **(marker | look))
    panels.name_rows(axes, labels)
    axes.legend(ncols=3, fontsize=7, loc="lower left", bbox_to_anchor=(-0.02, 0.99), borderpad=0.0,
                handletextpad=0.1, columnspacing=1.0)  # fmt: skip
    apart = "time, steps, and seconds per step at one dropout rate"
    axes.set_title(apart if judged.dropout else "time = steps × seconds per step", pad=18)
    axes.set_xlabel("geometric mean of ratios, on how many workloads")
