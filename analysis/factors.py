"""Where a win comes from: time ratio = steps ratio x step-cost ratio, a point per workload."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import panels, style
from analysis.judgement import Judgement
from analysis.style import INK, MUTED, WorkloadStyle
from analysis.svg import tip

# Lines of equal time, a factor of two apart.
_POWERS = range(-5, 6)
# As many fit above a panel.
_LETTERS = 25
_TINT = "#EAF1F6"
_INTERVAL: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.7}


def factor_plot(judged: Judgement) -> Figure | None:
    """A panel per submission; None where no submission and the baseline both reach a target.

    Args:
      judged: the logs' judgement.
    """
    ratios = judged.intervals.ratios
    points = ratios[ratios["steps_ratio"].notna() & (ratios["submission"] != judged.baseline)]
    apart = points["step_cost_ratio"].isna().any()
    points = points[points["step_cost_ratio"].notna()]
    points = points[~points["submission"].isin(judged.other_steps)]
    if points.empty or judged.baseline is None:
        return None
    entries = [name for name in judged.entries if name in set(points["submission"])]
    looks = style.workload_styles(
        {name: row for name, row in judged.facts.items() if name in set(points["workload"])}
    )
    across, up = (
        panels.span(points[names].to_numpy(float).ravel())
        for names in (
            ["steps_ratio", "steps_low", "steps_high"],
            ["step_cost_ratio", "cost_low", "cost_high"],
        )
    )
    columns = min(len(entries), 4 if len(entries) > 3 else 3)
    rows = math.ceil(len(entries) / columns)
    handles = _handles(looks)
    with style.context(**{"font.size": 8}):
        side = 1.75 if columns == 4 else 2.3
        below = 0.7 + 0.16 * math.ceil(len(handles) / columns)
        figure = panels.new_figure(max(side * columns + 0.5, 4), (side + 0.3) * rows + below)
        for axes, name in zip(panels.grid(figure, len(entries), columns), entries, strict=True):
            of_entry = points[points["submission"] == name]
            _draw_panel(axes, of_entry, looks, across, up)
            panels.write_title(axes, style.label(name), mean_text(of_entry), _LETTERS)
        against = style.label(judged.baseline)
        title = f"seconds per step, from the start to the target / {against}'s"
        figure.suptitle(title, x=0.01, ha="left", fontsize=8)
        title = f"steps to target / {against}'s (in grey: geometric means,\n"
        title += "steps × seconds per step = time, on how many workloads)"
        if any((row.submission, row.workload) in judged.dropout for row in points.itertuples()):
            title += "\nwhere dropout differs, seconds per step are at one rate, and so is the time"
        if apart:
            title += "\nleft out: where the two have no dropout rate in common"
        panels.legend_below(figure, handles, max(columns, 2), title)
    return figure


def mean_text(rows: pd.DataFrame) -> str:
    """Geometric means over the workloads of the factors and their product.

    >>> mean_text(pd.DataFrame({"steps_ratio": [0.5, 0.5], "step_cost_ratio": [1.0, 1.21]}))
    '0.50 × 1.10 = 0.55 on 2'
    """
    steps, cost = (
        float(np.exp(np.log(rows[name]).mean())) for name in ("steps_ratio", "step_cost_ratio")
    )
    return f"{steps:.2f} × {cost:.2f} = {steps * cost:.2f} on {len(rows)}"


def _draw_panel(
    axes: Axes,
    rows: pd.DataFrame,
    looks: Mapping[str, WorkloadStyle],
    across: tuple[float, float],
    up: tuple[float, float],
) -> None:
    """One submission's points with their intervals, over lines of equal time."""
    panels.ratio_axis(axes.xaxis, *across)
    panels.ratio_axis(axes.yaxis, *up)
    axes.grid(visible=False)
    axes.tick_params(labelsize=7)
    ends = np.array(across)
    axes.fill_between(ends, 1 / ends, up[0], color=_TINT, linewidth=0, zorder=0)
    for power in _POWERS:
        width = 0.9 if power == 0 else 0.4
        axes.plot(ends, 2.0**power / ends, color=MUTED, linewidth=width, zorder=1)
    for row in rows.itertuples():
        look = looks[str(row.workload)]
        steps, cost = row.steps_ratio, row.step_cost_ratio
        if not math.isnan(row.steps_low):
            interval = _INTERVAL | {"color": look.color, "zorder": 2}
            axes.plot([row.steps_low, row.steps_high], [cost, cost], **interval)
            axes.plot([steps, steps], [row.cost_low, row.cost_high], **interval)
        said = tip(f"{row.workload}: {steps:.2f} × {cost:.2f} = {steps * cost:.2f}")
        axes.plot(steps, cost, **_marker(look), zorder=3, clip_on=False, gid=said)


def _marker(look: WorkloadStyle) -> dict[str, Any]:
    return {
        "linestyle": "none",
        "marker": look.marker,
        "markersize": 5,
        "markerfacecolor": "white" if look.hollow else look.color,
        "markeredgecolor": look.color,
        "markeredgewidth": 1.1,
    }


def _handles(looks: Mapping[str, WorkloadStyle]) -> Sequence[Line2D]:
    handles = [Line2D([], [], label=name, **_marker(look)) for name, look in looks.items()]
    interval = Line2D([], [], color=INK, label="95% interval", **_INTERVAL)
    equal = Line2D([], [], color=MUTED, linewidth=0.9, label="as fast; tinted: faster")
    factor = Line2D([], [], color=MUTED, linewidth=0.4, label="equal time, factor 2 apart")
    return [*handles, interval, equal, factor]
