"""What figures share: small multiples, axes of ratios, titles and notes of panels."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis import style
from analysis.style import FAINT, INK, MUTED

# Powers of two: a factor and its inverse are equally far from 1.
_POWERS = [2.0**power for power in range(-10, 11)]
_FINE = (0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.6, 2.0, 2.5)


def new_figure(width: float, height: float) -> Figure:
    """A figure, in inches, whose layout makes room for all labels, titles and outside legends."""
    engine = ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.06)
    return Figure(figsize=(width, height), layout=engine)


def lay_out(figure: Figure) -> None:
    """Arranges the figure, so that its panels are where and as large as they will be."""
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)


def inches(text: str, size: float) -> float:
    """How wide a line of text is at most, at a size in points."""
    with style.context():
        extents = TextPath((0, 0), text, size, prop=FontProperties()).get_extents()
    # Letters that are fitted to a picture's pixels are a little wider.
    return 1.05 * float(extents.width) / 72


def grid(
    parent: Figure | SubFigure,
    count: int,
    columns: int,
    *,
    share_x: bool = True,
    share_y: bool = True,
) -> list[Axes]:
    """`count` panels, row by row, that share their axes unless told otherwise.

    Only the first panel of a row labels a shared vertical axis, and only panels with none below
    them a shared horizontal one.
    """
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    made = parent.subplots(rows, columns, sharex=share_x, sharey=share_y, squeeze=False).ravel()
    for axes in made[count:]:
        axes.remove()
    for axes in made[max(count - columns, 0) : count]:
        axes.tick_params(labelbottom=True)
    return list(made[:count])


def shorten(text: str, letters: int = 32) -> str:
    """Text without its middle if it has more letters.

    >>> shorten("a_rather_long_name", 10)
    'a_rat…name'
    """
    if len(text) <= letters:
        return text
    return f"{text[: letters // 2]}…{text[len(text) - (letters - letters // 2) + 1 :]}"


def write_title(axes: Axes, title: str, note: str = "", letters: int = 32) -> None:
    """A panel's title, without its middle if it has more letters, and a smaller note below it."""
    axes.set_title(
        shorten(title, letters), loc="left", fontsize=7.5, color=INK, pad=13 if note else 4
    )
    annotate(axes, note, (0, 1), (0, 3), xycoords="axes fraction", fontsize=6.5, color=MUTED)


def write_beside(axes: Axes, place: float, text: str, color: str = INK) -> None:
    """Text at a height of the axes' data, in the column to their right, where it covers nothing."""
    annotate(axes, text, (1, place), (3, 0), xycoords=("axes fraction", "data"), va="center",
             fontsize=7, color=color)  # fmt: skip


def annotate(axes: Axes, text: str, at: Any, points: tuple[float, float], **look: Any) -> None:
    """Text at a distance from a place, in points."""
    axes.annotate(text, at, points, textcoords="offset points", **look)


def name_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Rows of a horizontal chart, the first on top, each with its label."""
    axes.set_yticks(range(len(labels)), list(map(shorten, labels)))
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)


def legend_below(figure: Figure, handles: Iterable[Any], columns: int = 1, title: str = "") -> None:
    """A legend under all panels; its title may name the axis above it."""
    figure.legend(
        handles=list(handles), loc="outside lower left", ncols=columns, fontsize=7,
        title=title, title_fontsize=8, alignment="left", columnspacing=1.2, handlelength=3.0,
    )  # fmt: skip


def ratio_axis(axis: Any, low: float, high: float) -> None:
    """A logarithmic axis of ratios, ticked at powers of two, or finer where those are too few."""
    ticks = [tick for tick in _POWERS if low <= tick <= high]
    if len(ticks) < 3:
        ticks = [tick for tick in _FINE if low <= tick <= high]
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(color=FAINT, linewidth=0.6)
    axis.axes.set_axisbelow(True)
    axis.axes.set(**{f"{axis.axis_name}lim": (low, high)})


def span(values: Iterable[float], most: tuple[float, float] = (8.0, 8.0)) -> tuple[float, float]:
    """Limits of a logarithmic axis around 1 that hold the finite positive values, with a margin.

    >>> span([0.56, 2.0, float("inf")], most=(16.0, 2.0))
    (0.5, 2.0)

    Args:
      values: any numbers.
      most: the limits are at most these factors below and above 1, and at least 1.3.
    """
    known = [value for value in values if math.isfinite(value) and value > 0]
    low = min([1 / 1.3, *(value / 1.12 for value in known)])
    high = max([1.3, *(value * 1.12 for value in known)])
    return max(low, 1 / most[0]), min(high, most[1])
