"""Top-1 accuracy over epochs and over training time, every run as a line."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis import panels, style
from analysis.curves import median_curve
from analysis.imagenet_runs import Run, label, style_key
from analysis.style import FAINT, INK, EntryStyle

# The first part of a run, whose rise would flatten all the rest.
_RISE = 0.1
_LONG_HOURS = 0.5


def accuracy_curves(
    runs: Sequence[Run], reference: float | None, baseline: str, title: str
) -> Figure:
    """Accuracy over epochs on the left, over hours (or seconds) of training on the right.

    The line across is the baseline's final accuracy, a mark where a run's median first meets it.
    Of several seeds the median is bold, of the finished ones if there are any.

    Args:
      runs: at least one.
      reference: the baseline's final accuracy, or None where it is not known.
      baseline: its name.
      title: of the figure.
    """
    names = list(dict.fromkeys(run.name for run in runs))
    looks = style.entry_styles(map(style_key, names))
    long = max(run.log["hours"].iloc[-1] for run in runs) > _LONG_HOURS
    unit, column = ("h", "hours") if long else ("s", "seconds")
    with style.context(**{"font.size": 8}):
        layout = panels.Layout(2, 3.2, 2.5, 0.25, 0, 0.75, 0.2, 0.85, 0.35)
        figure, made = panels.grid(2, layout, share_x=False)
        for axes, x in zip(made, ("epoch", column), strict=True):
            for name in names:
                same = [run for run in runs if run.name == name]
                _draw(axes, same, x, looks[style_key(name)], reference)
            if reference is not None:
                axes.axhline(100 * reference, color=INK, linewidth=0.9, zorder=1)
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=x == "epoch"))
            axes.grid(axis="y", color=FAINT, linewidth=0.6)
        made[0].set_xlabel("epochs")
        made[1].set_xlabel(f"training time ({unit})")
        made[0].set_ylabel("validation top-1 accuracy (%)")
        _set_vertical_range(made[0], runs)
        figure.text(*panels.place(figure, 0.75, -0.2), title, fontsize=9)
        handles = [_handle(looks[style_key(name)], name, runs) for name in names]
        if reference is not None:
            final = f"{label(baseline)}'s final accuracy"
            handles.append(Line2D([], [], color=INK, linewidth=0.9, label=final))
        figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=panels.place(figure, 0.65, 0.03),
            ncols=min(len(handles), 3),
            fontsize=6.8,
            handlelength=3.2,
        )
    return figure


def _draw(
    axes: Axes, runs: Sequence[Run], column: str, look: EntryStyle, reference: float | None
) -> None:
    known = {run: run.log[run.log["validation_accuracy"].notna()] for run in runs}
    logs = {run: log for run, log in known.items() if len(log)}
    if not logs:
        return
    curves = {run: (log[column].to_numpy(), _percent(log)) for run, log in logs.items()}
    if len(curves) > 1:
        for x, y in curves.values():
            axes.plot(x, y, color=look.color, alpha=0.4, linewidth=0.7, zorder=2)
    # A median would take the last accuracy of a run that goes on for its final one.
    whole = [curve for run, curve in curves.items() if run.finished]
    shared = min(len(x) for x, _ in curves.values())
    x, y = median_curve(whole or [(x[:shared], y[:shared]) for x, y in curves.values()])
    marker = "." if len(x) == 1 else None
    axes.plot(x, y, color=look.color, linestyle=look.line, linewidth=1.6, marker=marker, zorder=3)
    if reference is None or not (met := np.flatnonzero(y >= 100 * reference)).size:
        return
    axes.plot(
        *(x[met[0]], y[met[0]]),
        color=look.color,
        marker=look.marker,
        markersize=6,
        markeredgecolor="white",
        markeredgewidth=0.9,
        clip_on=False,
        zorder=5,
    )


def _percent(log: pd.DataFrame) -> np.ndarray:
    return 100 * log["validation_accuracy"].to_numpy()


def _handle(look: EntryStyle, name: str, runs: Sequence[Run]) -> Line2D:
    same = [run for run in runs if run.name == name]
    parts = [look.label, f"{same[0].settings['epochs']} epochs"]
    if len(same) > 1:
        parts.append(f"{len(same)} seeds")
    if unfinished := sum(not run.finished for run in same):
        parts.append("unfinished" if len(same) == 1 else f"{unfinished} unfinished")
    return Line2D([], [], color=look.color, linestyle=look.line, label=", ".join(parts))


def _set_vertical_range(axes: Axes, runs: Sequence[Run]) -> None:
    """From where the first rise is over, with a margin, to the best of all."""
    risen = []
    for run in runs:
        accuracy = _percent(run.log.dropna(subset="validation_accuracy"))
        risen += accuracy.tolist()[math.ceil(_RISE * run.settings["epochs"]) - 1 :]
    if risen:
        margin = 0.05 * max(max(risen) - min(risen), 1.0)
        axes.set_ylim(min(risen) - margin, max(risen) + margin)
