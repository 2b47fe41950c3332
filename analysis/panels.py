"""Small multiples on one page: like panels, placed by the inch so that nothing is ever covered."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.style import FAINT, INK, MUTED

# Powers of two: a factor and its inverse are equally far from 1.
_POWERS = [2.0**power for power in range(-10, 11)]
_FINE = (0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.6, 2.0, 2.5)
_POINTS_PER_INCH = 72


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where panels are on a page; all lengths in inches.

    Attributes:
      columns: the most panels in a row.
      width, height: of one panel's axes.
      across, down: between the axes of neighbours.
      left, right, bottom, top: between the axes and the edges of the page.
    """

    columns: int
    width: float
    height: float
    across: float
    down: float
    left: float
    right: float
    bottom: float
    top: float


def grid(
    count: int, layout: Layout, *, share_x: bool = True, share_y: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, row by row, that share their axes unless they are told not to.

    The page is as large as the panels need. Only the first of a row names its vertical axis, and
    only panels with none below them number the horizontal one.
    """
    columns = min(layout.columns, count)
    rows = math.ceil(count / columns)
    wide, high = layout.width + layout.across, layout.height + layout.down
    page = (
        layout.left + columns * wide - layout.across + layout.right,
        layout.bottom + rows * high - layout.down + layout.top,
    )
    figure = Figure(figsize=page)
    made: list[Axes] = []
    for number in range(count):
        row, column = divmod(number, columns)
        x = layout.left + column * wide
        y = page[1] - layout.top - layout.height - row * high
        place = (x / page[0], y / page[1], layout.width / page[0], layout.height / page[1])
        first = made[0] if made else None
        axes = figure.add_axes(
            place, sharex=first if share_x else None, sharey=first if share_y else None
        )
        below = number + columns < count
        axes.tick_params(labelleft=column == 0, labelbottom=not below)
        made.append(axes)
    return figure, made


def place(figure: Figure, x: float, y: float) -> tuple[float, float]:
    """A point of the page, in inches from its left and bottom, or from the far edges if negative.

    >>> place(Figure(figsize=(4, 2)), 1, -0.5)
    (0.25, 0.75)
    """
    width, height = figure.get_size_inches()
    return float(x / width) % 1.0, float(y / height) % 1.0


def text_inches(texts: Iterable[str], size: float) -> float:
    """The width of the widest of some texts in the default font, in inches."""
    font = FontProperties(size=size)
    # Glyphs are outlines in points, whatever the resolution.
    widths = [TextPath((0, 0), text, prop=font).get_extents().width for text in texts if text]
    return float(max(widths, default=0.0)) / _POINTS_PER_INCH


def write_beside(axes: Axes, place: float, text: str, color: str = INK) -> None:
    """Text at a height of the axes' data, in the column to their right, where it covers nothing."""
    axes.annotate(
        text,
        (1.0, place),
        (3, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        fontsize=7,
        color=color,
    )


def shorten(text: str, inches: float, size: float) -> str:
    """Text without its middle, as far as it must do without to be no wider than `inches`.

    >>> shorten("a_rather_long_name", 0.7, 8)
    'a_rat…name'
    """
    shown, kept = text, len(text)
    while kept > 2 and text_inches([shown], size) > inches:
        kept -= 1
        shown = f"{text[: -(-kept // 2)]}…{text[len(text) - kept // 2 :]}"
    return shown


def write_above(axes: Axes, title: str, note: str = "", room: float = 0.45) -> None:
    """A panel's title, and a smaller note between it and the panel.

    Args:
      axes: the panel.
      title, note: the texts; too long a title loses its middle.
      room: how far it may reach beyond the panel, in inches.
    """
    wide = axes.bbox.width / axes.figure.dpi + room
    title = shorten(title, wide, 7.5)
    for text, up, size, color in ((title, 13 if note else 3, 7.5, INK), (note, 3, 6.5, MUTED)):
        axes.annotate(
            text,
            (0, 1),
            (0, up),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=size,
            color=color,
        )


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


def span(
    values: Sequence[float], least: float = 1.3, most: tuple[float, float] = (16.0, 16.0)
) -> tuple[float, float]:
    """Limits of a logarithmic axis around 1 that hold the finite positive values, with a margin.

    >>> span([0.56, 2.0, float("inf")], most=(16.0, 2.0))
    (0.5, 2.0)

    Args:
      values: any numbers.
      least: each limit is at least this factor from 1.
      most: the limits are at most these factors below and above 1.
    """
    known = [value for value in values if math.isfinite(value) and value > 0]
    low = min([1 / least, *(value / 1.12 for value in known)])
    high = max([least, *(value * 1.12 for value in known)])
    return max(low, 1 / most[0]), min(high, most[1])
