import re
from html.parser import HTMLParser

import pytest

from analysis.page import page
from common.cli import UserError

SVG = '<svg viewBox="0 0 4 3" xmlns="http://www.w3.org/2000/svg"></svg>'


class _Links(HTMLParser):
    """Everything that a page could fetch, and its tags."""

    def __init__(self):
        super().__init__()
        self.links = []
        self.tags = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]


def _parse(text):
    links = _Links()
    links.feed(text)
    return links


def test_pictures_are_inside_the_page(tmp_path):
    (tmp_path / "a.svg").write_text(SVG)
    made = page("# T\n\n![t<o](a.png)\n", tmp_path, "T")
    links = _parse(made)
    assert links.links == []
    assert 'aria-label="t&lt;o"' in made and made.count("<svg") == 1
    assert "<p><" not in made
    assert not links.tags & {"script", "link", "iframe", "object"}


def test_figures_share_no_names_and_take_the_pages_colours(tmp_path):
    look = "fill: #ffffff; stroke: #222222; color: #d55e00"
    drawing = (
        '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg viewBox="0 0 400 300" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        "<metadata>m</metadata><defs><style>* {}</style><path id='p'/></defs>".replace("'", '"')
        + f'<g id="tip_1" clip-path="url(#p)"><title>#222222</title><use xlink:href="#p" '
        f'style="{look}"/></g></svg>\n'
    )
    for name in ("a", "b"):
        (tmp_path / f"{name}.svg").write_text(drawing)
    made = page("![a](a.png)\n\n![b](b.png)\n", tmp_path, "T")
    body = made.split("<main>")[1]
    names = re.findall(r' id="([^"]*)"', made)
    assert len(names) == len(set(names)) == 5 and {"f0-p", "f1-p", "f1-tip_1"} < set(names)
    assert body.count("url(#f0-p)") == body.count('"#f0-p"') == 1
    assert body.count("fill: var(--paper); stroke: var(--ink); color: #d55e00") == 2
    assert body.count("<title>#222222</title>") == 2
    for gone in ("<?xml", "<!DOCTYPE", "metadata", "<style"):
        assert gone not in body
    for variable in set(re.findall(r"var\((--\w+)\)", made)):
        assert made.count(f"{variable}: #") == 2, "a colour for each scheme"


def test_a_figure_may_have_a_version_for_telephones(tmp_path):
    (tmp_path / "a.svg").write_text(SVG)
    assert page("![a](a.png)", tmp_path, "T").count("<svg") == 1
    (tmp_path / "a_narrow.svg").write_text(SVG)
    made = page("![a](a.png)", tmp_path, "T")
    assert '<div class="figure broad"><svg' in made and '<div class="figure slim"><svg' in made


def test_sections_are_listed_with_links_to_them(tmp_path):
    made = page("# T\n\n## One & two\n\n### In\n\n## Top\n\n## One, two\n", tmp_path, "T")
    named = re.findall(r'<h2 id="([^"]*)">', made)
    links = _parse(made).links
    assert links == 2 * [f"#{name}" for name in ("top", *named)]
    assert len(set(named)) == 3 and made.count(">One &amp; two</a>") == 2
    assert '<nav class="narrow"' in made and "<details><summary>Contents</summary>" in made
    assert "<a href" not in page("# T\n", tmp_path, "T")


def test_a_broken_drawing_and_a_missing_picture_are_a_users_error(tmp_path):
    (tmp_path / "a.svg").write_text("<svg")
    for name, file in (("a", r"a\.svg"), ("gone", r"gone\.svg")):
        with pytest.raises(UserError, match=f"cannot read .*{file}"):
            page(f"![x]({name}.png)", tmp_path, "T")


def test_markdown_becomes_a_page(tmp_path):
    text = "| a | b |\n|:--|--:|\n| x | 1 |\n\n<details><summary>s</summary>\n\n- y\n\n</details>\n"
    made = page(text, tmp_path, "a < b")
    assert "<title>a &lt; b</title>" in made and "default-src 'none'" in made
    assert '<div class="table"><table>' in made and "<li>y</li>" in made
    assert '<td style="text-align:right">1</td>' in made
    assert made.startswith("<!doctype html>") and made.endswith("</html>\n")
