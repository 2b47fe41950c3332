"""A report as one web page that needs nothing else: figures inside it, no scripts, no network."""

import base64
import html
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from common import files

# Tells the browser that nothing may be fetched, whatever a log's text may have smuggled in.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = Path(__file__).with_suffix(".css")
_TOP = "top"


def page(text: str, directory: Path, title: str) -> str:
    """The Markdown of a report as a web page with a table of contents.

    Args:
      text: the Markdown; its own HTML is kept, so text from outside must be escaped in it.
      directory: where the pictures are that it names, each with an SVG version beside it.
      title: the page's title.

    Raises:
      UserError: a picture cannot be read.
    """
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(text)
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                drawing = (directory / str(child.attrs["src"])).with_suffix(".svg")
                content = base64.b64encode(files.read_bytes(drawing)).decode()
                child.attrs["src"] = f"data:image/svg+xml;base64,{content}"
    contents = _contents(_named_headings(tokens))
    body = parser.renderer.render(tokens, parser.options, {})
    body = body.replace("<table>", '<div class="table"><table>').replace(
        "</table>", "</table></div>"
    )
    style = _STYLE.read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f'<body id="{_TOP}">\n{contents}<main>\n{body}</main>\n</body>\n</html>\n'
    )


def _named_headings(tokens: Sequence[Token]) -> list[tuple[str, str]]:
    """Gives every section's heading a name; returns names and texts, in order."""
    contents: list[tuple[str, str]] = []
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open" and opening.tag == "h2":
            name = re.sub(r"\W+", "-", inline.content.lower()).strip("-")
            while name in (_TOP, *(other for other, _ in contents)):
                name += "-"
            opening.attrs["id"] = name
            contents.append((name, inline.content))
    return contents


def _contents(sections: Sequence[tuple[str, str]]) -> str:
    """The table of contents: beside the text on wide screens, above it on narrow ones."""
    items = "".join(
        f'<li><a href="#{name}">{html.escape(text)}</a></li>'
        for name, text in ((_TOP, "Top"), *sections)
    )
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>\n'
