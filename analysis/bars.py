"""Time to target as bars relative to a baseline, with a point for every study."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis import scoring, style
from analysis.style import INK, MUTED, EntryStyle

_STUDY_POINT: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 4,
    "markerfacecolor": "white",
    "markeredgecolor": INK,
    "markeredgewidth": 0.8,
}
_LABEL_BOX: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
_MISSED_POINT: dict[str, Any] = {
    "linestyle": "none",
    "marker": "x",
    "markersize": 5,
    "markeredgecolor": INK,
    "markeredgewidth": 1.0,
}


def time_to_target_bars(
    trials: pd.DataFrame, baseline: str, styles: Mapping[str, EntryStyle]
) -> Figure:
    """Median time to target of every entry relative to the baseline's, in steps and in seconds.

    Args:
      trials: as `analysis.scoring.score_trials` returns.
      baseline: the submission that every ratio divides by.
      styles: of every submission in `trials`.
    """
    table = scoring.score_workloads(trials, baseline)
    studies = scoring.score_studies(trials)
    workloads = sorted(table["workload"].unique())
    entries = [baseline] + [name for name in sorted(styles) if name != baseline]
    entries = [name for name in entries if name in set(table["submission"])]
    stacked = len(workloads) * len(entries) > 9
    width = max(3.6, 1.0 + 0.42 * len(workloads) * (len(entries) + 0.8))
    size = (width + 0.4, 6.2) if stacked else (2 * width, 3.7)
    with style.context():
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(*((2, 1) if stacked else (1, 2)))
        for axes, column in zip(panels, ("steps", "seconds"), strict=True):
            _draw_bars(axes, table, studies, column, (baseline, entries, workloads), styles)
            axes.set_title(f"{column} to target")
            axes.set_ylabel(f"ratio to {style.label(baseline)}")
        handles: list[Patch | Line2D] = [
            Patch(facecolor=styles[name].color, label=styles[name].label) for name in entries
        ]
        handles.append(Line2D([], [], **_STUDY_POINT, label="one study"))
        if not studies["reached"].all():
            handles.append(Line2D([], [], **_MISSED_POINT, label="study without the target"))
        missed = np.isinf(table["median_steps"])
        bounded = table.loc[missed & (table["submission"] == baseline), "workload"]
        if (table["workload"].isin(bounded) & ~missed).any():
            note = f"≤: relative to {style.label(baseline)}'s trials, which end short of the target"
            handles.append(Line2D([], [], linestyle="none", label=note))
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _draw_bars(
    axes: Axes,
    table: pd.DataFrame,
    studies: pd.DataFrame,
    column: str,
    order: tuple[str, list[str], list[str]],
    styles: Mapping[str, EntryStyle],
) -> None:
    baseline, entries, workloads = order
    medians = table.set_index(["workload", "submission"])[f"median_{column}"]
    shown = studies.set_index(["workload", "submission"]).sort_index()
    tops: list[float] = [1.0]
    bars: list[tuple[float, str, float, np.ndarray, str]] = []
    width = 0.8 / len(entries)
    for group, workload in enumerate(workloads):
        reference, bound = _reference(medians, shown, workload, baseline, column)
        if not math.isfinite(reference):
            axes.text(
                group,
                0.5,
                f"no {style.label(baseline)} run",
                ha="center",
                va="center",
                rotation=90,
                color=MUTED,
                transform=axes.get_xaxis_transform(),
            )
            continue
        for place, entry in enumerate(entries):
            if (workload, entry) not in medians.index:
                continue
            ratio = medians[workload, entry] / reference
            points = shown.loc[[(workload, entry)], column].to_numpy(float) / reference
            center = group + (place - (len(entries) - 1) / 2) * width
            bars.append((center, entry, ratio, points, bound))
            tops.extend(value for value in (ratio, *points) if math.isfinite(value))
    top = 1.22 * max(tops)
    for center, entry, ratio, points, bound in bars:
        _draw_bar(axes, (center, width, top), ratio, points, bound, styles[entry].color)
    axes.axhline(1.0, color=INK, linewidth=0.9, linestyle=(0, (4, 2)), zorder=2.5)
    axes.set_ylim(0, top)
    axes.set_xlim(-0.6, len(workloads) - 0.4)
    axes.set_xticks(range(len(workloads)), workloads)
    axes.tick_params(axis="x", length=0)


def _reference(
    medians: pd.Series, shown: pd.DataFrame, workload: str, baseline: str, column: str
) -> tuple[float, str]:
    """What 1.0 stands for on a workload, and the sign to put before a ratio to it.

    Where the baseline's median study misses the target, a study that misses needs at least the
    length of its shortest trial, so ratios to the median of those are upper bounds.
    """
    if (workload, baseline) not in medians.index:
        return math.nan, ""
    reference = float(medians[workload, baseline])
    if math.isfinite(reference):
        return reference, ""
    last = {"steps": "last_step", "seconds": "last_seconds"}[column]
    rows = shown.loc[[(workload, baseline)]]
    return float(rows[column].where(rows["reached"], rows[last]).median()), "≤"


def _draw_bar(
    axes: Axes,
    place: tuple[float, float, float],
    ratio: float,
    points: np.ndarray,
    bound: str,
    color: str,
) -> None:
    center, width, top = place
    inner = 0.88 * width
    if math.isfinite(ratio):
        axes.bar(center, ratio, inner, color=color, zorder=2)
        highest = max([ratio, *points[np.isfinite(points)]])
        text = f"{bound}{ratio:.2f}"
        axes.annotate(
            text,
            (center, highest),
            (0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            bbox=_LABEL_BOX,
            zorder=4,
        )
    else:
        axes.bar(
            center, top, inner, facecolor="white", edgecolor=color, hatch="///", alpha=0.6, zorder=2
        )
        axes.text(
            center,
            top / 2,
            "not reached",
            rotation=90,
            ha="center",
            va="center",
            fontsize=8,
            bbox=_LABEL_BOX,
            zorder=4,
        )
    offsets = np.linspace(-0.25, 0.25, len(points)) * inner if len(points) > 1 else np.zeros(1)
    finite = np.isfinite(points)
    axes.plot(center + offsets[finite], points[finite], **_STUDY_POINT, zorder=5)
    missed = center + offsets[~finite]
    axes.plot(missed, np.full(len(missed), 0.96 * top), **_MISSED_POINT, zorder=5)
