"""What a figure's vector version says when the mouse rests on a mark."""

import html
import itertools
import re

_START = "tip:"
_MARK = re.compile(rf'<g id="{_START}([^"]*)">')


def tip(text: str) -> str:
    """An artist's `gid` that gives its mark a tooltip in the vector version.

    >>> tip("AdamW: 1.00")
    'tip:AdamW: 1.00'
    """
    return _START + " ".join(text.split())


def with_titles(text: str) -> str:
    """An SVG in which the marks of `tip` have titles, which browsers show, and plain names.

    >>> with_titles('<svg><g id="tip:1 &lt; 2"></g></svg>')
    '<svg><g id="tip_1"><title>1 &lt; 2</title></g></svg>'
    """
    numbers = itertools.count(1)

    def name(match: re.Match[str]) -> str:
        said = html.escape(html.unescape(match[1]), quote=False)
        return f'<g id="tip_{next(numbers)}"><title>{said}</title>'

    return _MARK.sub(name, text)
