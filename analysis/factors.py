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

# Lines of equal time, a factor of two apart.
_POWERS = range(-5, 6)
_TINT = "#EAF1F6"


def factor_plot(judged: Judgement) -> Figure | None:
    """A panel per submission; None where no median of it and of the baseline reach a target both.

    Args:
      judged: the logs' judgement.
    """
    ratios = judged.intervals.ratios
    points = ratios[ratios["steps_ratio"].notna() & (ratios["submission"] != judged.baseline)]
    points = points[~points["submission"].isin(judged.other_steps)]
    if points.empty or judged.baseline is None:
        return None
    entries = [name for name in judged.entries if name in set(points["submission"])]
    looks = style.workload_styles(
        {name: row for name, row in judged.facts.items() if name in set(points["workload"])}
    )
    across, up = (
        panels.span(pd.concat([points[name] for name in names]).to_list(), most=(8.0, 8.0))
        for names in (
            ("steps_ratio", "steps_low", "steps_high"),
            ("step_cost_ratio", "cost_low", "cost_high"),
        )
    )
    columns = min(len(entries), 4 if len(entries) > 3 else 3)
    with style.context(**{"font.size": 8}):
        handles = _handles(looks)
        key_columns = max(1, min(columns, 4))
        key_rows = math.ceil(len(handles) / key_columns)
        side = 1.5 if columns == 4 else 2.0
        layout = panels.Layout(
            *(columns, side, side, 0.22, 0.55),
            left=0.6,
            right=0.2,
            bottom=0.75 + 0.155 * key_rows,
            top=0.62,
        )
        figure, made = panels.grid(len(entries), layout)
        for axes, name in zip(made, entries, strict=True):
            rows = points[points["submission"] == name]
            draw_factors(axes, rows, looks, across, up)
            panels.write_above(axes, style.label(name), mean_text(rows), room=0.1)
        against = style.label(judged.baseline)
        title = f"seconds per step, from the start to the target / {against}'s"
        figure.text(*panels.place(figure, 0.08, -0.16), title)
        title = f"steps to target / {against}'s"
        figure.text(*panels.place(figure, 0.6, 0.37 + 0.155 * key_rows), title)
        note = "in grey: geometric means, steps × seconds per step = time, on how many workloads"
        note_at = panels.place(figure, 0.08, 0.16 + 0.155 * key_rows)
        figure.text(*note_at, note, fontsize=7, color=MUTED)
        figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=panels.place(figure, 0.05, 0.03),
            ncols=key_columns,
            fontsize=7,
            columnspacing=1.2,
        )
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


def draw_factors(
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
        at = row.steps_ratio, row.step_cost_ratio
        error: dict[str, Any] = {"color": look.color, "linewidth": 0.8, "alpha": 0.7, "zorder": 2}
        if not math.isnan(row.steps_low):
            axes.plot([row.steps_low, row.steps_high], [at[1], at[1]], **error)
            axes.plot([at[0], at[0]], [row.cost_low, row.cost_high], **error)
        axes.plot(*at, **_marker(look), zorder=3, clip_on=False)


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
    error = Line2D([], [], color=INK, linewidth=0.8, alpha=0.7, label="95% interval")
    equal = Line2D([], [], color=MUTED, linewidth=0.9, label="as fast; tinted: faster")
    factor = Line2D([], [], color=MUTED, linewidth=0.4, label="equal time, factor 2 apart")
    return [*handles, error, equal, factor]
