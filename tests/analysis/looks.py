"""Whether a figure can be read: no text covers another, leaves the page or enters a panel."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

# Boxes hold the room of letters that reach below the line, whether there are any or not.
_SLACK_PIXELS = 2.0


def texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that shows, and its place in pixels; rotated ones are left out."""
    return [(text.get_text(), box) for text, box in _boxes(figure) if text.get_rotation() % 90 == 0]


def _boxes(figure: Figure) -> list[tuple[Text, Bbox]]:
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    shown = [text for text in _shown(figure) if text.get_text().strip()]
    return [(text, text.get_window_extent(renderer)) for text in shown]


def _shown(figure: Figure) -> Iterator[Text]:
    hidden = set()
    for axis in figure.findobj(Axis):
        first, last = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks() + axis.get_minor_ticks():
            inside = first - 1e-9 <= tick.get_loc() <= last + 1e-9
            for label in (tick.label1, tick.label2):
                if not (inside and label.get_visible()):
                    hidden.add(label)
    for text in figure.findobj(Text):
        if text.get_visible() and text not in hidden:
            yield text


def flaws(figure: Figure) -> list[str]:
    """Texts that cover each other."""
    shown = texts(figure)
    low, high = (np.array([getattr(box, end) for _, box in shown]) for end in ("min", "max"))
    common = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    pairs = np.argwhere(np.triu((common > _SLACK_PIXELS).all(axis=-1), k=1))
    return [f"{shown[one][0]!r} covers {shown[other][0]!r}" for one, other in pairs]


def strays(figure: Figure) -> list[str]:
    """Texts that leave the page, or reach into a panel that is not theirs."""
    boxes = _boxes(figure)
    panels = [(axes, axes.get_window_extent(), set(axes.findobj(Text))) for axes in figure.axes]
    descriptions = []
    for text, box in boxes:
        ends = np.array([box.min, figure.bbox.max - box.max])
        if (ends < -_SLACK_PIXELS).any():
            descriptions.append(f"{text.get_text()!r} leaves the page")
        for axes, frame, own in panels:
            common = np.minimum(box.max, frame.max) - np.maximum(box.min, frame.min)
            if text not in own and (common > _SLACK_PIXELS).all():
                descriptions.append(
                    f"{text.get_text()!r} reaches into {axes.get_title(loc='left')!r}"
                )
    return descriptions
