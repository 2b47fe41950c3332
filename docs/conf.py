"""Sphinx's configuration; `make docs` runs it."""

import os
import re
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Where the repository is read in a browser, such as URL/blob/main; empty to name its paths alone.
SOURCE_URL = os.environ.get("DOCS_SOURCE_URL", "").rstrip("/")
LINK_OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./([^)\s]+)\)")

# The package under its installed name, without installing it.
_settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
_site = tempfile.TemporaryDirectory()
_folders = dict(_settings["tool"]["setuptools"]["package-dir"])
_top = Path(_site.name) / "stacked_shampoo"
_top.mkdir()
for _file in (ROOT / _folders.pop("stacked_shampoo")).glob("*.py"):
    (_top / _file.name).symlink_to(_file)
for _name, _folder in _folders.items():
    (_top / _name.removeprefix("stacked_shampoo.")).symlink_to(ROOT / _folder)
sys.path.insert(0, _site.name)

project = "stacked_shampoo"
author = "The maintainers of distributed-shampoo-algoperf"
copyright = author  # Sphinx's name for the line at the foot
release = version = _settings["project"]["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"
# A block without a language is what a command prints.
highlight_language = "none"

myst_enable_extensions = ["attrs_inline"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# One argument per line where a signature is longer.
python_maximum_signature_line_length = 88
napoleon_use_param = False
# As written: several names may share a line.
napoleon_custom_sections = [("Attributes", "params_style"), ("Items", "params_style")]
# There is no network in a build, hence no index of others' names.
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|jax|numpy|optax|collections|numbers|optional|[Aa] |same )\b.*"),
    (r"py:.*", r"(Any|Callable|Closure|Grafting|Literal|Method|ParamsT|Tensor|ProcessGroup)"),
]

html_theme = "furo"
html_title = "stacked_shampoo"
html_static_path = ["_static"]
html_css_files = ["wide_tables.css"]
html_copy_source = False


def _name_paths_outside(_: Any, __: str, source: list[str]) -> None:
    """Makes links to files of the repository that are no pages into links there, or into names."""

    def named(match: re.Match[str]) -> str:
        text, path = match.groups()
        if SOURCE_URL:
            return f"[{text}]({SOURCE_URL}/{path})"
        if text.strip("`") in path:
            return f"`{path}`"
        is_in_brackets = match.string[: match.start()].endswith("(")
        return f"{text}: `{path}`" if is_in_brackets else f"{text} (`{path}`)"

    source[0] = LINK_OUTSIDE.sub(named, source[0])


def setup(app: Any) -> None:
    app.connect("source-read", _name_paths_outside)
