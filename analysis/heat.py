"""Heat maps of ratios to the baseline: workloads down, submissions across, numbers in cells."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis import panels, style
from analysis.judgement import Judgement
from analysis.scoring import times_table
from analysis.svg import tip
from analysis.texts import CUT
from common.documents import UNKNOWN

# Orange costs more, purple less: people with colour-blindness tell them apart too. White is 1, and
# a factor of four has the darkest colour.
_COLORS = colormaps["PuOr_r"]
_DARKEST = 4.0
# Not quite the page's own colours, which a dark page exchanges.
ON_DARK, ON_LIGHT = "#fefefe", "#212121"
_CELL: dict[str, Any] = {"edgecolor": "white", "linewidth": 1.5}


def step_cost(judged: Judgement) -> Figure | None:
    """Seconds per step relative to the baseline's; None without a baseline or others beside it.

    Args:
      judged: the logs' judgement.
    """
    entries = [name for name in judged.entries if name != judged.baseline]
    if judged.baseline is None or not entries:
        return None
    cells = judged.cells
    values = times_table(cells, "steady_cost_ratio")
    compared = [name for name in judged.facts if values.loc[name, entries].notna().any()]
    if not compared:
        return None
    values = values.loc[compared, entries]
    base = cells[cells["submission"] == judged.baseline].set_index("workload")
    millis = 1000 * base.loc[compared, "steady_seconds_per_step"]
    with style.context(**{"font.size": 8}):
        rows = [f"{name}  {value:,.0f} ms" for name, value in zip(compared, millis, strict=True)]
        labels = list(map(style.label, entries))
        # Letters are about 0.07 inches wide; headings slope by 45 degrees.
        wide, slope = 0.07 * max(map(len, rows)), 0.05 * max(map(len, labels))
        size = 0.5 * len(entries) + wide + slope, 0.23 * len(compared) + slope + 0.4
        figure = panels.new_figure(size[0] + 0.2, size[1])
        axes = figure.subplots()
        texts = values.map(lambda value: UNKNOWN if math.isnan(value) else _cell_text(value))
        draw(axes, values, texts, labels)
        axes.set_yticks(range(len(rows)), rows)
        against = style.label(judged.baseline)
        figure.supxlabel(
            f"seconds per step / {against}'s (its own in ms), medians over trials",
            x=0.01,
            ha="left",
            fontsize=8,
        )
    return figure


def draw(axes: Axes, values: pd.DataFrame, texts: pd.DataFrame, labels: list[str]) -> None:
    """Fills `axes` with a cell for each value.

    Args:
      axes: where to draw.
      values: ratios; NaN cells are grey, inf ones have the darkest colour.
      texts: what each cell says, of the same shape.
      labels: the columns' headings.
    """
    shown = values.to_numpy(float)
    with np.errstate(divide="ignore"):
        scaled = np.log(shown) / (2 * math.log(_DARKEST)) + 0.5
    colors = _COLORS(np.clip(np.nan_to_num(scaled, nan=0.5), 0, 1))
    colors[np.isnan(shown)] = (0.94, 0.94, 0.94, 1)
    # The eye's weights of red, green and blue: white text where the cell is dark.
    light = colors[..., :3] @ np.array([0.299, 0.587, 0.114])
    for row, column in np.ndindex(shown.shape):
        ink = ON_DARK if light[row, column] < 0.5 else ON_LIGHT
        text = texts.iloc[row, column]
        said = tip(f"{values.index[row]}, {labels[column]}: {text}")
        corner = column - 0.5, row - 0.5
        cell = Rectangle(corner, 1, 1, facecolor=colors[row, column], gid=said, **_CELL)
        axes.add_patch(cell)
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=ink)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_ylim(len(values) - 0.5, -0.5)
    labels = list(map(panels.shorten, labels))
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(values)), list(values.index))
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)


def time_ratios(judged: Judgement) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ratios of times to target, workload x submission, and what a cell says of each.

    Only workloads that more than one submission has run. A miss is ✗, one that
    `--max_steps` cut short is cut, and where the baseline misses there is no ratio, and ✓ marks the
    submissions that reach the target.
    """
    times, ratios = times_table(judged.cells), times_table(judged.intervals.ratios, "ratio")
    ratios = ratios.reindex(index=times.index, columns=times.columns)
    several = times.notna().sum(axis=1) > 1
    order = [name for name in judged.facts if several.get(name, False)]
    times, ratios = times.loc[order, judged.entries], ratios.loc[order, judged.entries]
    texts = ratios.map(_cell_text)
    texts = texts.where(np.isfinite(ratios), "✓").where(np.isfinite(times), "✗")
    cut = times_table(judged.cells, "cut")
    was_cut = cut.reindex(index=times.index, columns=times.columns).fillna(0) > 0
    texts = texts.mask(was_cut & ~np.isfinite(times), CUT)
    return ratios, texts.where(times.notna(), UNKNOWN)


def _cell_text(ratio: float) -> str:
    """A ratio to a hundredth, or three digits.

    >>> _cell_text(0.4321), _cell_text(432.1)
    ('0.43', '432')
    """
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.3g}"
