"""The summary sheet: scores, profiles, ratios and where they come from, on one page."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
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

_Box = tuple[float, float, float, float]

# In inches: the page's margin, a row for its title, the room of words beside bars, the least width
# of a page and of a cell, and a letter of the notes.
_EDGE, _TITLE, _BESIDE = 0.1, 0.38, 1.35
_LEAST_WIDTH, _CELL, _NOTE_LETTER = 9.0, 0.46, 0.056
_FACTORS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("steps_ratio", "steps", {"marker": "o", "markerfacecolor": "white"}),
    ("step_cost_ratio", "seconds per step", {"marker": "x"}),
    ("ratio", "time", {"marker": "D", "markerfacecolor": INK}),
)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Where the panels of a sheet are: left, bottom, width and height in inches.

    Attributes:
      size: of the page.
      scores, ratios: side by side, with a row for each entry; no ratios without a comparison.
      profiles, factors: below them, likewise.
      notes: left and upper end of the notes, and their width.
    """

    size: tuple[float, float]
    scores: _Box
    ratios: _Box | None
    profiles: _Box
    factors: _Box | None
    notes: tuple[float, float, float]


def summary_sheet(judged: Judgement, styles: Mapping[str, EntryStyle]) -> Figure:
    """One landscape page, as large as its entries and workloads need.

    Above, a row for each entry: its score, and its time on every workload relative to the
    baseline's. Below, performance profiles, and what times are made of.

    Args:
      judged: the logs' judgement.
      styles: of every submission.
    """
    labels = [panels.shorten(styles[name].label) for name in judged.entries]
    colors = [styles[name].color for name in judged.entries]
    compared = judged.baseline is not None and len(judged.entries) > 1
    ratios, texts = heat.time_ratios(judged)
    plan = _plan(labels, list(ratios.index) if compared else [], compared)
    settings = {"font.size": 8, "axes.titlesize": 9, "axes.titlelocation": "left"}
    with style.context(**settings):
        figure = Figure(figsize=plan.size)
        left, top, wide = plan.notes
        panels.write(figure, _title(judged), (_EDGE, plan.size[1] - _EDGE), fontsize=12)
        notes = textwrap.fill(_footnotes(judged), int(wide / _NOTE_LETTER))
        panels.write(figure, notes, (left, top), fontsize=7, color=MUTED)
        _draw_scores(panels.place(figure, plan.scores), judged, labels, colors)
        axes = panels.place(figure, plan.profiles)
        profiles = dict(list(judged.intervals.profiles.groupby("submission")))
        profile_figure.draw_profiles(axes, profiles, judged.entries, styles, bands=False)
        axes.set_title("performance profiles, in the colours of the scores")
        axes.set_xlabel("time to target / the fastest submission's")
        if plan.factors is not None:
            _draw_factors(panels.place(figure, plan.factors), judged, labels)
        if plan.ratios is not None:
            axes = panels.place(figure, plan.ratios)
            heat.draw(axes, ratios.T, texts.T, list(ratios.index))
            axes.set_yticks([])
            axes.set_xlabel(f"time to target / {style.label(judged.baseline or '')}'s")
    return figure


def _plan(labels: Sequence[str], workloads: Sequence[str], compared: bool) -> _Plan:
    """Places the panels so that their texts fit between them and nothing else does.

    Args:
      labels: the entries'.
      workloads: the columns of the ratios; empty if there are none to show.
      compared: whether there is a baseline and somebody beside it.
    """
    count = len(labels)
    row = 0.36 if count <= 4 else 0.25
    high = row * count
    names = max(panels.inches(label, 8.0) for label in labels) + 0.2
    scores = names + 1.6 + _BESIDE
    # Headings slope by 45 degrees.
    slopes = [0.71 * panels.inches(panels.shorten(name), 8.0) + 0.15 for name in workloads]
    cells = _CELL * len(workloads)
    right = max([0.0, *(slope - _CELL * place for place, slope in enumerate(slopes[::-1]))])
    natural = _EDGE + scores + cells + right + _EDGE
    wide = max(natural, _LEAST_WIDTH)
    spare = wide - natural
    # The bars' and the cells' parts of what is left.
    stretched = min(spare / 2, 0.35 * len(workloads))
    cells, scores = cells + stretched, scores + spare - stretched
    below = max(2.3, row * count + 0.1)
    head = max([0.95, *slopes])
    total = _TITLE + head + high + 0.95 + below + 0.5
    top = total - _TITLE - head - high
    lower = names + _EDGE if compared else _EDGE + 0.4
    half = (wide - (names + 0.55 + 0.4 if compared else 0.5) - 2 * _EDGE) / (2 if compared else 1)
    return _Plan(
        size=(wide, total),
        scores=(_EDGE + names, top, scores - names - _BESIDE, high),
        ratios=(_EDGE + scores, top, cells, high) if workloads else None,
        profiles=(_EDGE + 0.4, 0.5, half, below),
        factors=(_EDGE + 0.4 + half + lower, 0.5, half, below) if compared else None,
        notes=(_EDGE, total - _TITLE, scores - 0.1),
    )


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
