"""Learning curves: the validation metric over steps and over submission time."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis import panels, style
from analysis.headline import hero_of
from analysis.judgement import Judgement
from analysis.style import FAINT, INK, MUTED, EntryStyle
from analysis.svg import tip
from analysis.texts import CUT, seconds_text, steps_text
from workloads.facts import WorkloadFacts

Curve = tuple[np.ndarray, np.ndarray]

# Wider than this, a minimised metric is read better on a logarithmic axis.
_LOG_SPAN = 2.5
# The share of the way to the target that is left out, because it would flatten the rest.
_WARM_UP_SHARE = 0.25
_LONG_SECONDS = 7200
_THOUSANDS_FROM = 9999
_END: dict[str, Any] = {"marker": "o", "markersize": 3, "linestyle": "none", "alpha": 0.8}
# With more entries than this, single studies hide the medians.
_STUDIES_UP_TO = 4
# Inches of a legend's line and of the room around it.
_BESIDE_LEGEND = 0.5


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
    judged: Judgement, workload: str, styles: Mapping[str, EntryStyle]
) -> Figure | None:
    """Validation metric over steps and over submission time; None where nothing was evaluated.

    Each entry's best point is drawn, as far as its trials went. A published entry has no
    evaluations, only a crossing.

    Args:
      judged: the logs' judgement.
      workload: the workload.
      styles: of every submission.
    """
    facts = judged.facts[workload]
    points = judged.points
    best = points[points["best"] & (points["workload"] == workload)].set_index("entry")
    best = best.reindex([name for name in judged.entries if name in best.index])
    frame = judged.frame[judged.frame["workload"] == workload]
    groups = dict(list(frame.groupby(["submission", "trial"])))
    drawn = {
        row.Index: groups[row.Index, row.trial]
        for row in best.itertuples()
        if (row.Index, row.trial) in groups
    }
    if not drawn:
        return None
    long = max(rows["score"].max() for rows in drawn.values()) > _LONG_SECONDS
    unit, seconds = ("h", 3600.0) if long else ("s", 1.0)
    single = len(best) <= _STUDIES_UP_TO
    with style.context(**{"font.size": 8}):
        stopped = any(any(_ended(rows, facts)) for rows in drawn.values())
        handles = _handles(best, styles, facts, single, stopped)
        columns = 2 if len(handles) > 5 else 1
        widest = max(panels.inches(str(handle.get_label()), 7.0) for handle in handles)
        wide = max(7.4, columns * (widest + _BESIDE_LEGEND))
        figure = panels.new_figure(wide, 3.1 + 0.16 * math.ceil(len(handles) / columns))
        made = panels.grid(figure, 2, 2, share_x=False)
        medians: list[Curve] = []
        ends: list[float] = []
        for axes, (column, median, scale) in zip(
            made,
            (("global_step", "median_steps", 1.0), ("score", "median_seconds", seconds)),
            strict=True,
        ):
            for row in best.itertuples():
                name = str(row.Index)
                if column == "global_step" and name in judged.other_steps:
                    continue
                rows = drawn.get(name, frame.iloc[:0])
                curves = _study_curves(rows, column, scale)
                crossing = getattr(row, median) / scale
                # In a crowd, those whom the report is about stand out.
                width = 1.8 if single else 2.2 if name in (hero_of(judged), judged.baseline) else 1
                medians += _draw_entry(axes, curves, crossing, facts, styles[name], single, width)
                if single:
                    ends += _draw_ends(axes, curves, _ended(rows, facts), styles[name])
            if facts.validation_target is not None:
                axes.axhline(facts.validation_target, color=INK, linewidth=0.9, zorder=1)
            _set_horizontal_axis(axes)
            axes.grid(axis="y", color=FAINT, linewidth=0.6)
        made[0].set_xlabel("steps")
        made[1].set_xlabel(f"submission time ({unit})")
        made[0].set_ylabel(f"validation {facts.metric}")
        _set_vertical_range(made[0], medians, ends, facts)
        figure.suptitle(_title(facts), x=0.01, ha="left", fontsize=9)
        panels.legend_below(figure, handles, columns)
    return figure


def _studies(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The known evaluations of each study that has any."""
    known = rows[np.isfinite(rows["validation_metric"].astype(float))]
    return [study for _, study in known.groupby(["framework", "study"])]


def _study_curves(rows: pd.DataFrame, column: str, divisor: float) -> list[Curve]:
    return [
        (study[column].to_numpy(float) / divisor, study["validation_metric"].to_numpy(float))
        for study in _studies(rows)
    ]


def _ended(rows: pd.DataFrame, facts: WorkloadFacts) -> list[bool]:
    """Whether each study's trial stopped because it had met the target, before its last step."""
    target = facts.validation_target
    return [
        any(facts.meets(value, target) for value in study["validation_metric"])
        and study["global_step"].iloc[-1] < facts.step_hint
        for study in _studies(rows)
    ]


def _draw_ends(axes: Axes, curves: list[Curve], ended: list[bool], look: EntryStyle) -> list[float]:
    """A dot where a study's trial stopped at the target; returns the values there."""
    ends = [(x[-1], y[-1]) for (x, y), stopped in zip(curves, ended, strict=True) if stopped]
    for x, y in ends:
        axes.plot(x, y, color=look.color, zorder=2.5, **_END)
    return [float(y) for _, y in ends]


def _draw_entry(
    axes: Axes,
    curves: list[Curve],
    crossing: float,
    facts: WorkloadFacts,
    look: EntryStyle,
    single: bool,
    width: float,
) -> list[Curve]:
    """Draws one entry, with single studies if `single`; returns its median curve, if any."""
    medians = []
    thin: dict[str, Any] = {"color": look.color, "alpha": 0.4, "linewidth": 0.7, "zorder": 2}
    for x, y in curves if single else ():
        # One evaluation makes no line, but it must not vanish.
        axes.plot(x, y, marker="." if len(x) == 1 else None, **thin)
    if curves:
        x, y = median_curve(curves, crossing if math.isfinite(crossing) else 0.0)
        bold: dict[str, Any] = {"color": look.color, "linestyle": look.line, "zorder": 3}
        axes.plot(x, y, marker="." if len(x) == 1 else None, linewidth=width,
                  gid=tip(look.label), **bold)  # fmt: skip
        medians.append((x, y))
    if facts.validation_target is not None and math.isfinite(crossing):
        _draw_crossing(axes, crossing, facts.validation_target, look)
    return medians


def _draw_crossing(axes: Axes, crossing: float, target: float, look: EntryStyle) -> None:
    """A mark where the median study meets the target, and a line from it down to the axis."""
    marker: dict[str, Any] = {"marker": look.marker, "markersize": 6.5, "zorder": 5}
    edge: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.9}
    said = tip(f"{look.label}: {crossing:,.4g}")
    axes.plot(crossing, target, color=look.color, clip_on=False, gid=said, **marker, **edge)
    line: dict[str, Any] = {"color": look.color, "linewidth": 0.8, "alpha": 0.6, "shrinkB": 0}
    axes.annotate(
        "",
        xy=(crossing, 0),
        xytext=(crossing, target),
        xycoords=("data", "axes fraction"),
        textcoords="data",
        arrowprops={"arrowstyle": "-", **line},
        zorder=1,
    )


def _handles(
    best: pd.DataFrame,
    styles: Mapping[str, EntryStyle],
    facts: WorkloadFacts,
    single: bool,
    stopped: bool,
) -> list[Line2D]:
    handles = []
    for row in best.itertuples():
        look = styles[str(row.Index)]
        text = CUT if row.cut else "missed"
        if math.isfinite(row.median_steps):
            long = row.median_seconds >= 1000
            seconds = f"{row.median_seconds:,.0f}" if long else seconds_text(row.median_seconds)
            text = f"{steps_text(row.median_steps)} steps, {seconds} s"
        text = f"{look.label}, point {row.trial}: {text} ({row.reached} of {row.studies})"
        line: dict[str, Any] = {"color": look.color, "linestyle": look.line, "linewidth": 1.8}
        marker: dict[str, Any] = {"marker": look.marker, "markersize": 5}
        handles.append(Line2D([], [], label=text, markeredgecolor="white", **line, **marker))
    if facts.validation_target is not None:
        target = f"target {facts.validation_target:.5g}"
        handles.append(Line2D([], [], color=INK, linewidth=0.9, label=target))
    if single:
        thin: dict[str, Any] = {"color": MUTED, "alpha": 0.6, "linewidth": 0.7}
        handles.append(Line2D([], [], label="one study", **thin))
        if stopped:
            handles.append(
                Line2D([], [], label="stopped, as it had met the target", color=MUTED, **_END)
            )
    return handles


def _set_horizontal_axis(axes: Axes) -> None:
    """From 0 to the end of the longest curve, with few ticks.

    A rival that misses is seen to its end: cut off sooner it would look worse than it is.
    """
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if axes.get_xlim()[1] > _THOUSANDS_FROM:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if x else "0"))


def _title(facts: WorkloadFacts) -> str:
    stands = f" (stand-in for {facts.stands_in_for})" if facts.stands_in_for else ""
    return f"{facts.name}{stands}: each entry's best point, median (studies that reach the target)"


def _set_vertical_range(
    axes: Axes, medians: Sequence[Curve], ends: Sequence[float], facts: WorkloadFacts
) -> None:
    """Fits the way to the target, not the fall from the start or a divergence.

    A curve that reaches the target is shown from _WARM_UP_SHARE of its way there on, one that
    misses at its best at least, unless it has a single evaluation. The dots at `ends` are shown.
    """
    target = facts.validation_target
    values = [*ends] if target is None else [*ends, target]
    best = np.min if facts.direction == "min" else np.max
    for x, y in medians:
        if len(x) == 1 and len(medians) > 1:
            continue
        values.append(float(best(y)))
        meets = np.flatnonzero([facts.meets(value, target) for value in y])
        if len(meets):
            values.append(float(y[np.searchsorted(x, _WARM_UP_SHARE * x[meets[0]])]))
    if not values:
        return
    low, high = min(values), max(values)
    if facts.direction == "min" and low > 0 and high / low > _LOG_SPAN:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(
            LogLocator(subs=(1, 1.5, 2, 3, 4, 6, 8) if high / low < 12 else (1, 3))
        )
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        margin = (high / low) ** 0.06
        axes.set_ylim(low / margin, high * margin)
    else:
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + margin)
