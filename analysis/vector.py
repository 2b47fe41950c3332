"""Figures as part of a web page: names of their own, colours of the page, text as text."""

import html
import re
from xml.etree import ElementTree

# The colours that follow the page's scheme, and what they are in its style sheet.
_VARIABLES = {
    "#000000": "ink",
    "#222222": "ink",
    "#767676": "muted",
    "#dddddd": "faint",
    "#ffffff": "paper",
    "#eaf1f6": "tint",
    "#882255": "wine",
    "#4f6d8c": "slate",
    "#0072b2": "blue",
}
_COLOR = re.compile("|".join(_VARIABLES))
_PROLOG = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_UNUSED = re.compile(r"\s*<(metadata|style)\b.*?</\1>", re.DOTALL)
_NAME = re.compile(r'(\bid="|xlink:href="#|url\(#)')
_STYLE = re.compile(r'style="[^"]*"')
_ROOT = re.compile(r"<svg\b[^>]*>")
# A point of a figure is at least and at most so many pixels wide; on narrow screens it scrolls.
_SMALLEST, _LARGEST = 1.1, 1.5


def inlined(text: str, name: str, alt: str) -> str:
    """An SVG file's text as an element for a web page.

    Args:
      text: of the file.
      name: precedes all names in it, so that those of several figures differ.
      alt: what the figure is, for those who cannot see it.

    Raises:
      ElementTree.ParseError: it is no XML.
    """
    box = ElementTree.fromstring(text).attrib["viewBox"]
    width = float(box.split()[2])
    body = _UNUSED.sub("", _PROLOG.sub("", text))
    body = _NAME.sub(rf"\g<1>{name}-", body)
    body = _STYLE.sub(
        lambda style: _COLOR.sub(lambda color: f"var(--{_VARIABLES[color[0]]})", style[0]), body
    )
    start = (
        f'<svg viewBox="{html.escape(box)}" role="img" aria-label="{html.escape(alt)}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'style="min-width:{_SMALLEST * width:.0f}px;max-width:{_LARGEST * width:.0f}px">'
    )
    return _ROOT.sub(lambda _: start, body, count=1).strip()
