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
from analysis.style import INK, MUTED, EntryStyle
from analysis.svg import tip
from analysis.texts import CUT, count_text, interval_text

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
# With more entries than this, the marks of single studies are too small to read.
_POINTS_UP_TO = 4
# The least that a study needed that misses the target.
_LAST = {"steps": "last_step", "seconds": "last_seconds"}
_COLUMNS = [
    *("workload", "submission", "kind", "ratio", "low", "high", "earliest", "latest", "points"),
    "studies",
]


def relative(judged: Judgement, column: str) -> pd.DataFrame:
    """Ratios to the baseline on every workload that it and others have run.

    Args:
      judged: with a baseline.
      column: `steps` or `seconds`.

    Returns:
      One row per workload and submission, in the order of `judged`: workload, submission; kind:
      `ratio`, `bound` (the baseline's median study misses; the ratio is to the length of its
      shortest trials, and an upper bound), `missed` (the submission's median study misses), `cut`
      (so it does, where `--max_steps` ended trials), or `other` (its logs count steps otherwise);
      ratio; low, high (its interval, NaN for a bound or from one study); earliest, latest (the
      bounds that the evaluation periods leave; NaN in steps and for a bound); points (each
      study's ratio, inf where missed); studies.
    """
    cells = {(row.workload, row.submission): row for row in judged.cells.itertuples()}
    ratios = {(row.workload, row.submission): row for row in judged.intervals.ratios.itertuples()}
    studies = dict(list(judged.studies.groupby(["workload", "submission"])))
    rows: list[tuple[Any, ...]] = []
    for workload in judged.facts:
        ran = [name for name in judged.entries if (workload, name) in cells]
        if judged.baseline not in ran or len(ran) < 2:
            continue
        base = workload, judged.baseline
        reference, kind = float(getattr(cells[base], f"median_{column}")), "ratio"
        if not math.isfinite(reference):
            missed = studies[base][_LAST[column]]
            least = studies[base][column].where(studies[base]["reached"], missed)
            reference, kind = float(np.median(least)), "bound"
        for name in ran:
            cell, interval = cells[workload, name], ratios[workload, name]
            ratio = getattr(cell, f"median_{column}") / reference
            low, high, earliest, latest = [math.nan] * 4
            if kind == "ratio" and column == "seconds":
                low, high = interval.ci_low, interval.ci_high
                if name != judged.baseline:
                    earliest, latest = interval.earliest, interval.latest
            elif kind == "ratio":
                # Intervals of factors leave out resamples whose median misses; in seconds these
                # are infinite, so the interval in steps is open on the same side.
                low = 0.0 if interval.ci_low == 0 else interval.steps_low
                high = math.inf if math.isinf(interval.ci_high) else interval.steps_high
            points = studies[workload, name][column].to_numpy(float) / reference
            shown = kind if math.isfinite(ratio) else CUT if cell.cut else "missed"
            if column == "steps" and name in judged.other_steps:
                shown, ratio, points = "other", math.nan, np.zeros(0)
                low = high = math.nan
            span = low, high, earliest, latest
            rows.append((workload, name, shown, ratio, *span, points, cell.studies))
    return pd.DataFrame(rows, columns=_COLUMNS)


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
    columns = min(3 if len(workloads) <= 9 else 4, len(workloads))
    rows = math.ceil(len(workloads) / columns)
    with_points = len(entries) <= _POINTS_UP_TO
    handles = _handles(table, judged, with_points)
    with style.context(**{"font.size": 8}):
        height = (0.2 if with_points else 0.155) * len(entries) + 0.45
        figure = panels.new_figure(2.0 * columns + 1.3, rows * height + 0.6 + 0.15 * len(handles))
        limits = _limits(table, with_points)
        for axes, workload in zip(
            panels.grid(figure, len(workloads), columns), workloads, strict=True
        ):
            of_workload = table[table["workload"] == workload]
            _draw_panel(axes, of_workload, entries, styles, limits, with_points)
            count = count_text(of_workload["studies"], "study", "studies")
            panels.write_title(axes, workload, count)
            panels.name_rows(axes, [styles[name].label for name in entries])
        label = f"{column} to target / {styles[judged.baseline].label}'s, below 1 is better"
        panels.legend_below(figure, handles, title=label)
    return figure


def _limits(table: pd.DataFrame, with_points: bool) -> tuple[float, float]:
    table = table[table["kind"] == "ratio"]
    values = table[["ratio", "low", "high", "earliest", "latest"]].to_numpy(float).ravel().tolist()
    if with_points:
        values.extend(np.concatenate([[], *table["points"]]))
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
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", labelsize=7)
    of_entry = {str(row.submission): row for row in rows.itertuples()}
    for place, name in enumerate(entries):
        row = of_entry.get(name)
        if row is None or row.kind == "other":
            panels.write_beside(axes, place, "other" if row else "no runs", MUTED)
        elif row.kind in ("missed", CUT):
            panels.write_beside(axes, place, row.kind)
        elif row.kind == "bound":
            # Had the entry taken longer than the baseline ran, either might be the faster one.
            text = f"≤{row.ratio:.2f}" if row.ratio < 1 else "reached"
            panels.write_beside(axes, place, text)
        else:
            panels.write_beside(axes, place, f"{row.ratio:.2f}")
            _draw_ratio(axes, place, row, styles[name].color, limits)
            if with_points:
                points = np.clip(row.points[np.isfinite(row.points)], *limits)
                # At different heights, so that equal ones show.
                heights = place + 0.2 * np.linspace(-1, 1, len(points)) * (len(points) > 1)
                axes.plot(points, heights, zorder=5, clip_on=False, **_POINT)


def _draw_ratio(axes: Axes, place: int, row: Any, color: str, limits: tuple[float, float]) -> None:
    """A bar from 1 to the ratio, its interval, and what the evaluation periods leave open."""
    (bar,) = axes.barh(
        place, np.clip(row.ratio, *limits) - 1, 0.72, 1, color=color, linewidth=0, zorder=2
    )
    ends = interval_text(row.ratio, row.low, row.high)
    bar.set_gid(tip(f"{row.workload}: {style.label(row.submission)} {ends}"))
    if math.isfinite(row.earliest):
        left, right = np.clip([row.earliest, row.latest], *limits)
        axes.barh(place, right - left, 0.36, left, zorder=3, **_PERIOD)
    if not math.isnan(row.low):
        axes.plot(np.clip([row.low, row.high], *limits), [place] * 2, zorder=4, **_INTERVAL)
        for end, edge, marker in zip((row.low, row.high), limits, "<>", strict=True):
            if (end < edge) if marker == "<" else (end > edge):
                axes.plot(edge, place, marker, color=INK, markersize=3, clip_on=False, zorder=4)


def _handles(table: pd.DataFrame, judged: Judgement, with_points: bool) -> list[Patch | Line2D]:
    """The legend of the marks and the words that the figure has."""
    baseline = style.label(judged.baseline or "")
    handles: list[Patch | Line2D] = []
    if table["low"].notna().any():
        handles.append(Line2D([], [], **_INTERVAL, label="95% interval (bootstrap over studies)"))
    if table["earliest"].notna().any():
        handles.append(Patch(**_PERIOD, label="doubt from the evaluation periods"))
    if with_points:
        handles.append(Line2D([], [], **_POINT, label="one study that reaches the target"))
    kinds, bounds = set(table["kind"]), table.loc[table["kind"] == "bound", "ratio"]
    words = {
        "missed: the median study misses the target": "missed" in kinds,
        "cut: by --max_steps, before the target": CUT in kinds,
        "other: the logs seem to count steps otherwise than the baseline's": "other" in kinds,
        f"reached: the target, which {baseline}'s median study misses": (bounds >= 1).any(),
        f"≤: an upper bound, as {baseline}'s median study misses: the ratio to the length of its "
        "shortest trials": (bounds < 1).any(),
    }
    texts = [text for text, present in words.items() if present]
    return [*handles, *(Line2D([], [], linestyle="none", label=text) for text in texts)]
