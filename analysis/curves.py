"""Learning curves: the validation metric over steps and over submission time."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis import style
from analysis.style import INK, MUTED, EntryStyle
from analysis.tables import seconds_text, steps_text
from workloads.facts import WorkloadFacts

Curve = tuple[np.ndarray, np.ndarray]

# Wider than this, a minimised metric is read better on a logarithmic axis.
_LOG_SPAN = 2.5
# The first part of training, left outside the vertical range: it would flatten all the rest.
_WARM_UP_SHARE = 0.05
_LONG_SECONDS = 7200


def median_curve(curves: list[Curve], reach: float = 0.0) -> Curve:
    """The pointwise median of curves over a shared range.

    A curve keeps its last value once it has ended, because a trial that has met its targets stops;
    the median therefore meets a target where the median study does. It ends where half of the
    curves have ended, or at `reach` if that is later.

    Args:
      curves: pairs of x (increasing) and y, float arrays of one length per curve, no NaN.
      reach: an x that the median goes up to at least.

    Returns:
      x and y of the median, interpolated linearly at every x of any curve in the range.
    """
    start = max(x[0] for x, _ in curves)
    stop = max(start, reach, float(np.median([x[-1] for x, _ in curves])))
    grid = np.unique(np.concatenate([*(x for x, _ in curves), [start, stop]]))
    grid = grid[(grid >= start) & (grid <= stop)]
    return grid, np.median([np.interp(grid, x, y) for x, y in curves], axis=0)


def learning_curves(
    frame: pd.DataFrame,
    best: pd.DataFrame,
    facts: WorkloadFacts,
    styles: Mapping[str, EntryStyle],
) -> Figure:
    """Validation metric over steps and over submission time on one workload.

    Args:
      frame: evaluations of that workload, as `analysis.logs.Logs.frame`.
      best: the best points of `analysis.scoring.score_points`: the one drawn for each entry.
      facts: the workload's facts.
      styles: of every entry in `best`.
    """
    with style.context():
        # Two long labels fit side by side with nothing else.
        columns = 2 if len(best) <= 2 else 1
        rows_of_legend = math.ceil((len(best) + 2) / columns)
        figure = Figure(figsize=(7.2, 3.1 + 0.19 * rows_of_legend), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        drawn = {
            row.entry: frame[(frame["submission"] == row.entry) & (frame["trial"] == row.trial)]
            for row in best.itertuples()
        }
        long = max(rows["score"].max() for rows in drawn.values()) > _LONG_SECONDS
        unit, scale = ("h", 3600.0) if long else ("s", 1.0)
        for axes, column, median, divisor in zip(
            panels,
            ("global_step", "score"),
            ("median_steps", "median_seconds"),
            (1.0, scale),
            strict=True,
        ):
            for row in best.itertuples():
                curves = _study_curves(drawn[row.entry], column, divisor)
                crossing = getattr(row, median) / divisor
                _draw_entry(axes, curves, crossing, facts.validation_target, styles[row.entry])
            if facts.validation_target is not None:
                axes.axhline(facts.validation_target, color=INK, linewidth=0.9, zorder=1)
            axes.set_xlim(left=0)
            axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        panels[0].set_xlabel("steps")
        panels[1].set_xlabel(f"submission time ({unit})")
        panels[0].set_ylabel(f"validation {facts.metric}")
        _set_vertical_range(panels[0], pd.concat(drawn.values()), facts)
        figure.suptitle(_workload_title(facts), fontsize=10)
        handles = [_curve_handle(row, styles[row.entry]) for row in best.itertuples()]
        if facts.validation_target is not None:
            target = f"target {facts.validation_target:.5g}"
            handles.append(Line2D([], [], color=INK, linewidth=0.9, label=target))
        thin = Line2D([], [], color=MUTED, alpha=0.6, linewidth=0.7, label="one study")
        figure.legend(handles=[*handles, thin], loc="outside lower center", ncols=columns)
    return figure


def _study_curves(rows: pd.DataFrame, column: str, divisor: float) -> list[Curve]:
    curves = []
    for _, study in rows.groupby(["framework", "study"]):
        x = study[column].to_numpy(float) / divisor
        y = study["validation_metric"].to_numpy(float)
        known = np.isfinite(y)
        if known.any():
            curves.append((x[known], y[known]))
    return curves


def _draw_entry(
    axes: Axes, curves: list[Curve], crossing: float, target: float | None, look: EntryStyle
) -> None:
    single: dict[str, Any] = {"color": look.color, "alpha": 0.4, "linewidth": 0.7, "zorder": 2}
    for x, y in curves:
        # One evaluation makes no line, but it must not vanish.
        axes.plot(x, y, marker="." if len(x) == 1 else None, **single)
    if curves:
        x, y = median_curve(curves, crossing if math.isfinite(crossing) else 0.0)
        marker = "." if len(x) == 1 else None
        axes.plot(
            x, y, marker=marker, color=look.color, linestyle=look.line, linewidth=1.8, zorder=3
        )
    if target is not None and math.isfinite(crossing):
        axes.plot(
            [crossing],
            [target],
            marker=look.marker,
            markersize=7,
            markerfacecolor=look.color,
            markeredgecolor="white",
            markeredgewidth=1.0,
            clip_on=False,
            zorder=5,
        )
        ends = ((crossing, target), (crossing, 0))
        axes.annotate(
            "",
            xy=ends[1],
            xytext=ends[0],
            xycoords=("data", "axes fraction"),
            textcoords="data",
            arrowprops={"arrowstyle": "-", "color": look.color, "linewidth": 0.9, "alpha": 0.7},
            zorder=1,
        )


def _curve_handle(row: Any, look: EntryStyle) -> Line2D:
    steps, seconds = row.median_steps, row.median_seconds
    trial, reached, studies = row.trial, row.reached, row.studies
    text = f"{look.label}, point {trial}: "
    if math.isfinite(steps):
        text += f"{steps_text(steps)} steps, {seconds_text(seconds)} s"
    else:
        text += "not reached"
    text += f" ({reached} of {studies} studies)"
    return Line2D(
        [],
        [],
        color=look.color,
        linestyle=look.line,
        linewidth=1.8,
        marker=look.marker,
        markersize=6,
        markeredgecolor="white",
        label=text,
    )


def _workload_title(facts: WorkloadFacts) -> str:
    stands = f" (stand-in for {facts.stands_in_for})" if facts.stands_in_for else ""
    return f"{facts.name}{stands}: each entry's best point, median over studies"


def _set_vertical_range(axes: Axes, rows: pd.DataFrame, facts: WorkloadFacts) -> None:
    """Fits the medians and everything better: one diverged study must not flatten the rest."""
    late = rows[rows["global_step"] >= _WARM_UP_SHARE * rows["global_step"].max()]
    late = late[np.isfinite(late["validation_metric"])]
    medians = late.groupby(["submission", "global_step"])["validation_metric"].median()
    values = medians.to_list()
    if facts.validation_target is not None:
        values.append(facts.validation_target)
    if not values:
        return
    low, high = min(values), max(values)
    if facts.direction == "min":
        low = min([low, *late["validation_metric"]])
    else:
        high = max([high, *late["validation_metric"]])
    if facts.direction == "min" and low > 0 and high / low > _LOG_SPAN:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=_log_ticks(high / low), numticks=20))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        margin = (high / low) ** 0.06
        axes.set_ylim(low / margin, high * margin)
    else:
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + margin)


def _log_ticks(span: float) -> tuple[float, ...]:
    """Which multiples of the powers of ten to label, few enough to read."""
    if span < 12:
        return (1, 1.5, 2, 3, 4, 6, 8)
    return (1, 2, 5) if span < 100 else (1,)
