"""The pages of docs/: all in the contents, their links and anchors real, the API complete."""

import importlib.util
import itertools
import re
import subprocess
import sys
import tomllib
import unicodedata
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import submission.shampoo

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
OTHERS = ("README.md", "CONTRIBUTING.md", "examples/README.md")
DOCUMENTS = [*PAGES, *map(ROOT.joinpath, OTHERS)]


def tokens(path):
    return MarkdownIt().enable("table").parse(path.read_text())


def plain(inline):
    """The text of a heading, without markup."""
    return "".join(child.content for child in inline.children or ())


def anchors(path):
    """The anchors that GitHub and MyST give to the headings of a document."""
    slugs = set()
    parsed = tokens(path)
    for opening, inline in itertools.pairwise(parsed):
        if opening.type == "heading_open":
            letters = (c for c in plain(inline).lower() if c in " -_" or c.isalnum() or is_mark(c))
            slugs.add("".join(letters).strip().replace(" ", "-"))
    return slugs


def is_mark(character):
    return unicodedata.category(character).startswith("M")


def links(path):
    """Targets of links and images of a document, but for those with a scheme."""
    children = [child for token in tokens(path) for child in token.children or ()]
    targets = [child.attrGet("href") or child.attrGet("src") for child in children]
    return [str(t) for t in targets if t and not re.match(r"[a-z]+:", str(t))]


def test_every_page_is_in_the_contents():
    index = (ROOT / "docs" / "index.md").read_text()
    trees = re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL)
    listed = [
        name for tree in trees for name in re.findall(r"^[^:].* <([\w-]+)>$", tree, re.MULTILINE)
    ]
    assert sorted([*listed, "index"]) == [path.stem for path in PAGES]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    dead = []
    for link in links(path):
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(link)
    assert not dead


@pytest.mark.parametrize("path", [*DOCUMENTS, *(ROOT / "submission").rglob("*.md")], ids=str)
def test_no_line_of_text_is_taken_for_html(path):
    """As one that begins with a comment is: its markup would be shown as it stands."""
    blocks = [token.content for token in tokens(path) if token.type == "html_block"]
    lines = re.sub(r"<!--.*?-->", "", "".join(blocks), flags=re.DOTALL).splitlines()
    assert not [line for line in lines if line.strip() and not line.lstrip().startswith("<")]


def test_every_public_name_is_in_the_reference():
    text = (ROOT / "docs" / "api.md").read_text()
    names = re.findall(r"^\.\. auto\w+:: stacked_shampoo\.(\w+)$", text, re.MULTILINE)
    assert sorted(names) == sorted(submission.shampoo.__all__)


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [settings["version"]]
    assert re.findall(r"^license: (.+)$", citation, re.MULTILINE) == [settings["license"]["text"]]


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("sphinx", "myst_parser", "furo"))),
    reason="no Sphinx here; `make test` and `make docs` install it",
)
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html"]
    command += [f"--doctree-dir={tmp_path / 'trees'}", "docs", str(tmp_path / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "api.html").exists()


def test_code_runs(tmp_path):
    names = ("docs/guide.md", "docs/recipes.md", "README.md", "docs/jax.md")
    pages = [(ROOT / name).read_text() for name in names]
    blocks = re.findall(r"```python\n(.*?)```", "\n".join(pages), re.DOTALL)
    if not all(map(importlib.util.find_spec, ("jax", "optax"))):
        blocks = [block for block in blocks if "stacked_shampoo.jax" not in block]
    code = "\n".join(blocks).replace("from stacked_shampoo.jax", "from submission.shampoo_jax")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + code.replace(
        "from stacked_shampoo", "from submission.shampoo"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
