"""Whether a figure can be read: no text covers another. Saving cuts none off at the page's edge."""

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
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    result = []
    for text in _shown(figure):
        if text.get_text().strip() and text.get_rotation() % 90 == 0:
            box = text.get_window_extent(renderer)
            result.append((text.get_text(), box))
    return result


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
