"""A report as one web page that needs nothing else: pictures inside it, no scripts, no network."""

import base64
import html
import mimetypes
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from common.cli import UserError

# Tells the browser that nothing may be fetched, whatever a log's text may have smuggled in.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 68rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: break-word; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
img { max-width: 100%; height: auto; display: block; margin: 1rem 0; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.7rem; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #222; vertical-align: bottom; }
td { white-space: nowrap; }
blockquote { margin: 1rem 0; padding: 0.1rem 1rem; border-left: 4px solid #d55e00;
             background: #fdf3ec; }
code { background: #f2f2f2; padding: 0 0.2rem; }
summary { cursor: pointer; color: #0b5394; }
@media print { body { max-width: none; font-size: 10pt; } h2 { break-after: avoid; }
               img, tr { break-inside: avoid; } }
"""


def page(text: str, directory: Path, title: str) -> str:
    """The Markdown of a report as a web page.

    Args:
      text: the Markdown; its own HTML is kept, so text from outside must be escaped in it.
      directory: where the pictures are that it names.
      title: the page's title.

    Raises:
      UserError: a picture cannot be read.
    """
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(text)
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                _inline(child, directory)
    body = parser.renderer.render(tokens, parser.options, {})
    body = body.replace("<table>", '<div class="table"><table>').replace(
        "</table>", "</table></div>"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    )


def _inline(image: Token, directory: Path) -> None:
    """Puts a picture's bytes where its path was; the vector version if there is one."""
    path = directory / str(image.attrs["src"])
    vector = path.with_suffix(".svg")
    path = vector if vector.exists() else path
    try:
        content = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    image.attrs["src"] = f"data:{kind};base64,{content}"
