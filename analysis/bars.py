"""Time or steps to target as bars relative to a baseline, with intervals, a panel per workload."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis import panels, style
from analysis.judgement import Judgement
from analysis.relative import relative
from analysis.style import INK, MUTED, EntryStyle
from analysis.texts import count_text

_POINT: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 3.2,
    "markerfacecolor": "white",
    "markeredgecolor": INK,
    "markeredgewidth": 0.7,
}
_INTERVAL: dict[str, Any] = {"color": INK, "linewidth": 1.1, "solid_capstyle": "butt"}
_PERIOD: dict[str, Any] = {"facecolor": "none", "edgecolor": INK, "linewidth": 0.5}
# With more entries than this, single studies would only be dust.
_POINTS_UP_TO = 4


def time_to_target_bars(
    judged: Judgement, column: str, styles: Mapping[str, EntryStyle]
) -> Figure | None:
    """Every submission's median relative to the baseline's; None where there is nothing to draw.

    Args:
      judged: the logs' judgement.
      column: `steps` or `seconds`.
      styles: of every submission.
    """
    table = relative(judged, column) if judged.baseline is not None else pd.DataFrame()
    if table.empty or judged.baseline is None:
        return None
    entries = [name for name in judged.entries if name in set(table["submission"])]
    workloads = list(dict.fromkeys(table["workload"]))
    with_points = len(entries) <= _POINTS_UP_TO
    with style.context(**{"font.size": 8}):
        handles = _handles(table, judged, with_points)
        figure, made = panels.grid(
            len(workloads),
            panels.Layout(
                columns=3 if len(workloads) <= 9 else 4,
                width=1.36,
                height=(0.26 if with_points else 0.155) * len(entries) + 0.06,
                across=0.52,
                down=0.5,
                left=panels.text_inches([styles[name].label for name in entries], 8) + 0.15,
                right=0.45,
                bottom=0.55 + 0.14 * len(handles),
                top=0.36,
            ),
        )
        limits = _limits(table, with_points)
        for axes, workload in zip(made, workloads, strict=True):
            rows = table[table["workload"] == workload]
            _draw_panel(axes, rows, entries, styles, limits, with_points)
            panels.write_above(axes, workload, count_text(rows["studies"], "study", "studies"))
        made[0].set_ylim(len(entries) - 0.45, -0.55)
        made[0].set_yticks(range(len(entries)), [styles[name].label for name in entries])
        what = f"{column} to target / {styles[judged.baseline].label}'s, below 1 is better"
        bottom = 0.2 + 0.14 * len(handles)
        figure.text(*panels.place(figure, 0.1, bottom), what, fontsize=8)
        corner = panels.place(figure, 0.02, 0.02)
        figure.legend(handles=handles, loc="lower left", bbox_to_anchor=corner, fontsize=7)
    return figure


def _limits(table: pd.DataFrame, with_points: bool) -> tuple[float, float]:
    table = table[(table["kind"] != "bound") | (table["ratio"] < 1)]
    values = [*table["ratio"], *table["low"], *table["high"], *table["earliest"], *table["latest"]]
    if with_points:
        values.extend(np.concatenate(table["points"].to_list()))
    return panels.span(values, most=(8.0, 4.0))


def _draw_panel(
    axes: Axes,
    rows: pd.DataFrame,
    entries: list[str],
    styles: Mapping[str, EntryStyle],
    limits: tuple[float, float],
    with_points: bool,
) -> None:
    panels.ratio_axis(axes.xaxis, *limits)
    axes.axvline(1.0, color=INK, linewidth=0.9, zorder=2.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", labelsize=7)
    bounded = (rows["kind"] == "bound").any()
    absent = {name: place for place, name in enumerate(entries)}
    for row in rows.itertuples():
        place = absent.pop(str(row.submission))
        _draw_bar(axes, place, row, styles[str(row.submission)].color, limits)
        if with_points:
            _draw_points(axes, place, np.asarray(row.points), limits, bounded)
    for place in absent.values():
        panels.write_beside(axes, place, "no runs", MUTED)


def _draw_bar(axes: Axes, place: int, row: Any, color: str, limits: tuple[float, float]) -> None:
    low, high = limits
    if row.kind == "other":
        panels.write_beside(axes, place, "other", MUTED)
        return
    if row.kind == "missed":
        axes.barh(
            place, high - 1, 0.72, 1, facecolor="none", edgecolor=color, hatch="////",
            linewidth=0, zorder=2,
        )  # fmt: skip
        panels.write_beside(axes, place, "missed")
        return
    ratio = min(max(row.ratio, low), high)
    if row.kind == "bound" and row.ratio >= 1:
        # Longer than the baseline ran: who is faster, is open.
        panels.write_beside(axes, place, "reached")
        return
    if row.kind == "bound":
        # Anything below is possible, so there is an end but no length.
        axes.plot([low, ratio], [place, place], color=color, linewidth=1.2, linestyle=":", zorder=2)
        axes.plot(ratio, place, marker="|", color=color, markersize=9, markeredgewidth=2, zorder=2)
        panels.write_beside(axes, place, f"≤{row.ratio:.2f}")
        return
    axes.barh(place, ratio - 1, 0.72, 1, color=color, linewidth=0, zorder=2)
    if math.isfinite(row.earliest):
        left, right = max(row.earliest, low), min(row.latest, high)
        axes.barh(place, right - left, 0.36, left, zorder=3, **_PERIOD)
    if not math.isnan(row.low):
        left, right = max(row.low, low), min(row.high, high)
        axes.plot([left, right], [place, place], zorder=4, **_INTERVAL)
        for end, edge, marker in ((row.low, low, "<"), (row.high, high, ">")):
            if end != min(max(end, low), high):
                axes.plot(edge, place, marker, color=INK, markersize=3, clip_on=False, zorder=4)
    panels.write_beside(axes, place, f"{row.ratio:.2f}")


def _draw_points(
    axes: Axes, place: int, points: np.ndarray, limits: tuple[float, float], bounded: bool
) -> None:
    shown = points[np.isfinite(points)]
    # Relative to a mere bound, where exactly a far one lies means nothing.
    shown = shown[shown <= limits[1]] if bounded else np.clip(shown, *limits)
    # Beside each other, so that equal ones show.
    heights = place + np.linspace(-0.2, 0.2, len(shown)) if len(shown) > 1 else [place]
    axes.plot(shown, heights[: len(shown)], zorder=5, clip_on=False, **_POINT)


def _handles(table: pd.DataFrame, judged: Judgement, with_points: bool) -> list[Patch | Line2D]:
    """What the marks mean, as far as they are there."""
    handles: list[Patch | Line2D] = []
    if table["low"].notna().any():
        handles.append(Line2D([], [], **_INTERVAL, label="95% interval (bootstrap over studies)"))
    if table["earliest"].notna().any():
        handles.append(Patch(**_PERIOD, label="doubt from the evaluation periods"))
    if with_points:
        handles.append(Line2D([], [], **_POINT, label="one study that reaches the target"))
    if (table["kind"] == "missed").any():
        hatch = Patch(facecolor="none", edgecolor=MUTED, hatch="////", linewidth=0)
        hatch.set_label("the median study misses the target")
        handles.append(hatch)
    baseline = style.label(judged.baseline or "")
    if (table["kind"] == "other").any():
        note = "other: its logs seem to count steps otherwise than the baseline's"
        handles.append(Line2D([], [], linestyle="none", label=note))
    bounds = table[table["kind"] == "bound"]
    if (bounds["ratio"] >= 1).any():
        note = f"reached, where {baseline}'s median study misses"
        handles.append(Line2D([], [], linestyle="none", label=note))
    if (bounds["ratio"] < 1).any():
        note = f"≤, an upper bound: {baseline}'s median study misses, so this is relative to the "
        note += "length of its shortest trials"
        handles.append(Line2D([], [], color=MUTED, linestyle=":", marker="|", label=note))
    return handles
