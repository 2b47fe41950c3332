"""A report as one web page that needs nothing else: figures inside it, no scripts, no network."""

import html
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from markdown_it import MarkdownIt
from markdown_it.token import Token

from analysis import vector
from common.cli import UserError

# Tells the browser that nothing may be fetched, whatever a log's text may have smuggled in.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = Path(__file__).with_suffix(".css")
_TOP = "top"
# What a figure's version for telephones is called beyond the figure's own name.
NARROW = "_narrow"


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
    figures: list[str] = []
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                figures.append(_figure(child, directory, len(figures)))
                child.type, child.content = "html_inline", f"\0{len(figures) - 1}\0"
    contents = _named_headings(tokens)
    body = parser.renderer.render(tokens, parser.options, {})
    body = body.replace("<table>", '<div class="table"><table>').replace(
        "</table>", "</table></div>"
    )
    # A figure is no part of a paragraph.
    body = re.sub(r"<p>\0(\d+)\0</p>", "\0\\1\0", body)
    body = re.sub(r"\0(\d+)\0", lambda match: figures[int(match[1])], body)
    style = _STYLE.read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f'<body id="{_TOP}">\n{_contents(contents)}<main>\n{body}</main>\n</body>\n</html>\n'
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
    """The table of contents twice: beside the text on wide screens, folded above on narrow ones."""
    if not sections:
        return '<nav class="wide"></nav>\n'
    items = "".join(
        f'<li><a href="#{name}">{html.escape(text)}</a></li>'
        for name, text in ((_TOP, "Top"), *sections)
    )
    return (
        f'<nav class="wide" aria-label="Contents"><ul>{items}</ul></nav>\n'
        '<nav class="narrow" aria-label="Contents"><details><summary>Contents</summary>'
        f"<ul>{items}</ul></details></nav>\n"
    )


def _figure(image: Token, directory: Path, number: int) -> str:
    """The vector version of the picture itself where its path was."""
    path = (directory / str(image.attrs["src"])).with_suffix(".svg")
    try:
        whole = vector.inlined(path.read_text("utf-8"), f"f{number}", image.content)
        slim = path.with_stem(path.stem + NARROW)
        if not slim.exists():
            return f'<div class="figure">{whole}</div>'
        small = vector.inlined(slim.read_text("utf-8"), f"n{number}", image.content)
        return f'<div class="figure broad">{whole}</div><div class="figure slim">{small}</div>'
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
