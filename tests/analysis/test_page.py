import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.page import page
from common.cli import UserError

SVG = '<svg viewBox="0 0 4 3" xmlns="http://www.w3.org/2000/svg"></svg>'


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
    (tmp_path / "a.svg").write_text(SVG)
    made = page("# T\n\n![t<o](a.png)\n", tmp_path, "T")
    links = _parse(made)
    (picture,) = [link for link in links.links if not link.startswith("#")]
    kind, _, content = picture.partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(content).decode() == SVG
    assert 'alt="t&lt;o"' in made
    assert not links.tags & {"script", "link", "iframe", "object"}


def test_sections_are_listed_with_links_to_them(tmp_path: Path) -> None:
    made = page("# T\n\n## One & two\n\n### In\n\n## Top\n\n## One, two\n", tmp_path, "T")
    named = re.findall(r'<h2 id="([^"]*)">', made)
    links = _parse(made).links
    assert links == [f"#{name}" for name in ("top", *named)]
    assert len(set(named)) == 3 and made.count(">One &amp; two</a>") == 1


def test_a_missing_picture_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.svg cannot be read"):
        page("![x](gone.png)", tmp_path, "T")


def test_markdown_becomes_a_page(tmp_path: Path) -> None:
    text = "| a | b |\n|:--|--:|\n| x | 1 |\n\n<details><summary>s</summary>\n\n- y\n\n</details>\n"
    made = page(text, tmp_path, "a < b")
    assert "<title>a &lt; b</title>" in made and "default-src 'none'" in made
    assert '<div class="table"><table>' in made and "<li>y</li>" in made
    assert '<td style="text-align:right">1</td>' in made
    assert made.startswith("<!doctype html>") and made.endswith("</html>\n")
