import base64
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.page import page
from common.cli import UserError

SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'


class _Links(HTMLParser):
    """Everything that a page could fetch, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]


def _parse(text: str) -> _Links:
    links = _Links()
    links.feed(text)
    return links


def test_pictures_are_inside_the_page(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    (tmp_path / "b.png").write_bytes(b"png")
    (tmp_path / "b.svg").write_text(SVG)
    links = _parse(page("# T\n\n![one](a.png)\n\n![two](b.png)\n", tmp_path, "T"))
    vector = base64.b64encode(SVG.encode()).decode()
    assert links.links == [
        f"data:image/png;base64,{base64.b64encode(b'png').decode()}",
        f"data:image/svg+xml;base64,{vector}",
    ]
    assert not links.tags & {"script", "link", "iframe", "object"}


def test_markdown_becomes_a_page(tmp_path: Path) -> None:
    text = "| a | b |\n|:--|--:|\n| x | 1 |\n\n<details><summary>s</summary>\n\n- y\n\n</details>\n"
    made = page(text, tmp_path, "a < b")
    assert "<title>a &lt; b</title>" in made and "default-src 'none'" in made
    assert '<div class="table"><table>' in made and "<li>y</li>" in made
    assert '<td style="text-align:right">1</td>' in made
    assert made.startswith("<!doctype html>") and made.endswith("</html>\n")


def test_a_missing_picture_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*gone\.png"):
        page("![x](gone.png)", tmp_path, "T")
