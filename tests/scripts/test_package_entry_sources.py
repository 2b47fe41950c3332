"""The modules of a package: which they are, their imports, and what is refused."""

from pathlib import Path

import pytest
import yaml

from common.cli import UserError
from scripts.official.entry import SPACE
from scripts.package_entry.folder import compose
from scripts.package_entry.rewrite import rewritten
from scripts.package_entry.sources import Source, reached

INFO = {
    "submission_name": "Name",
    "authors": "A",
    "affiliations": "",
    "version": "1.0",
    "ruleset": "external",
    "framework": "PyTorch",
    "description": "What it is.",
}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("shampoo.roots", "from submission.shampoo.eigh import a", "from .eigh import a"),
        ("shampoo.roots", "from submission.shampoo import eigh", "from . import eigh"),
        ("shampoo.roots", "from submission.algoperf_api import a", "from ..algoperf_api import a"),
        ("shampoo.deep.x", "from submission.shampoo.eigh import a", "from ..eigh import a"),
        ("shampoo.deep.x", "from ..eigh import a", "from ..eigh import a"),
        ("entries.e.x", "from submission.entries.e.y import a", "from .y import a"),
        ("entries.e.x", "from submission.entries.f.y import a", "from .entries.f.y import a"),
        ("entries.e.x", "import submission.shampoo.eigh as a", "from .shampoo import eigh as a"),
        ("entries.e.x", "import submissionary", "import submissionary"),
        (
            "entries.e.x",
            "é = 'from submission.a import b'; from submission.shampoo import (  # why\n    a,\n)",
            "é = 'from submission.a import b'; from .shampoo import (  # why\n    a,\n)",
        ),
        (
            "entries.e.x",
            "if TYPE_CHECKING:\n from submission.a import b\ndef f():\n from submission.c import d",
            "if TYPE_CHECKING:\n from .a import b\ndef f():\n from .c import d",
        ),
        (
            "entries.e.x",
            "'''\n>>> from submission.a import b\n... import submission.entries.e.y as y\n'''",
            "'''\n>>> from home.e.a import b\n... import home.e.y as y\n'''",
        ),
    ],
)
def test_imports_become_relative(name: str, text: str, expected: str) -> None:
    source = Source(f"submission.{name}", Path("x.py"), text)
    assert rewritten(source, "e", "home.e") == expected


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with an entry `e` that imports nothing."""
    write(tmp_path, "submission/__init__.py", "")
    write(tmp_path, "submission/entries/__init__.py", '"""All entries."""')
    write(tmp_path, "submission/entries/e/__init__.py", "")
    write(tmp_path, "submission/entries/e/submission.py", "")
    write(tmp_path, "submission/entries/e/submission_info.yml", yaml.safe_dump(INFO))
    write(tmp_path, f"submission/entries/e/{SPACE}", '[{"learning_rate": 0.1}]')
    write(tmp_path, "requirements.txt", "einops==0.8.1  # shapes\n")
    write(tmp_path, "LICENSE", "A licence.")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_a_fallback_beside_the_benchmark_is_left_out(tree: Path) -> None:
    text = """
def f():
    try:
        # The benchmark's.
        from algoperf import spec
        import numpy
    except ImportError:
        from workloads import spec
    try:
        import numpy
    except ImportError:
        numpy = None
"""
    write(tree, "submission/entries/e/submission.py", text)
    packed = compose(tree, "e").contents["submission.py"].decode()
    assert (
        packed
        == """
def f():
    # The benchmark's.
    from algoperf import spec
    import numpy
    try:
        import numpy
    except ImportError:
        numpy = None
"""
    )


def test_files_that_modules_name_are_taken(tree: Path) -> None:
    write(tree, "submission/entries/e/submission.py", "from submission.tables import read")
    write(tree, "submission/tables/__init__.py", "")
    write(tree, "submission/tables/read.py", "NAME = 'numbers.json'")
    write(tree, "submission/tables/numbers.json", "[1]")
    write(tree, "submission/tables/notes.json", "[2]")
    contents = compose(tree, "e").contents
    assert contents["tables/numbers.json"] == b"[1]"
    assert "tables/notes.json" not in contents


def test_what_the_benchmark_does_not_install_is_required(tree: Path) -> None:
    write(tree, "submission/entries/e/submission.py", "import torch, einops, json")
    contents = compose(tree, "e").contents
    assert contents["requirements.txt"].decode().splitlines()[1:] == ["einops==0.8.1"]
    write(tree, "submission/entries/e/submission.py", "import unpinned")
    with pytest.raises(UserError, match="pins no version of unpinned"):
        compose(tree, "e")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("entries/e/submission.py", "\nimport workloads", r"submission.py:2: imports workloads"),
        ("entries/e/submission.py", "from scripts.run import a", "imports scripts.run"),
        ("entries/e/submission.py", "import submission.entries", r":1: write `from submission"),
        ("entries/e/submission.py", "from submission.gone import a", "no module submission.gone"),
        ("__init__.py", "print(1)", "__init__.py:1: code here runs in no package"),
        (f"entries/e/{SPACE}", "[]", "list of points is empty"),
    ],
)
def test_what_cannot_be_packaged_is_named(tree: Path, name: str, text: str, message: str) -> None:
    write(tree, f"submission/{name}", text)
    with pytest.raises(UserError, match=message):
        compose(tree, "e")


def test_two_modules_cannot_have_one_place(tree: Path) -> None:
    write(tree, "submission/a.py", "")
    write(tree, "submission/entries/e/a.py", "")
    text = "from submission import a\nfrom submission.entries.e import a as b"
    write(tree, "submission/entries/e/submission.py", text)
    with pytest.raises(UserError, match="have one place in a package"):
        compose(tree, "e")


def test_a_self_tuning_entry_has_no_search_space(tree: Path) -> None:
    info = yaml.safe_dump(INFO | {"ruleset": "self-tuning"})
    write(tree, "submission/entries/e/submission_info.yml", info)
    with pytest.raises(UserError, match="ruleset has no search space"):
        compose(tree, "e")


def test_imports_that_go_round_are_followed_once(tree: Path) -> None:
    write(tree, "submission/a.py", "from submission import b")
    write(tree, "submission/b.py", "import submission.a as a")
    assert set(reached(tree, "submission.a").sources) == {
        "submission", "submission.a", "submission.b"
    }  # fmt: skip
