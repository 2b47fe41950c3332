"""Imports run downwards and never in a circle; files are short enough to hold one idea."""

import ast
import graphlib
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What each room may import from. The optimizer's room is copied and installed by itself.
ROOMS = {
    "submission": {"submission"},
    "common": {"common"},
    "workloads": {"submission", "common", "workloads"},
    "scripts": {"submission", "common", "workloads", "scripts"},
    "analysis": {"submission", "common", "workloads", "scripts", "analysis"},
}
LONGEST = 400


def sources():
    """The Python files, without those of other checkouts and environments below this folder."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a checkout of git")
    return [Path(name) for name in listed.stdout.split("\n") if name and (ROOT / name).exists()]


def module_of(path):
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """The names of all that a file imports, also inside functions and for type checkers only."""
    package = path.parent.parts
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def test_no_import_runs_upwards_or_in_a_circle():
    modules = {module_of(path): path for path in sources() if path.parts[0] in ROOMS}
    graph = {}
    for name, path in modules.items():
        used = {other for other in imports(path) if other in modules} - {name}
        # A package is imported with each of its modules, which is no dependency on what it exports.
        graph[name] = {other for other in used if modules[other].name != "__init__.py"}
        allowed = ROOMS[path.parts[0]]
        assert not [other for other in used if other.split(".")[0] not in allowed], name
    graphlib.TopologicalSorter(graph).prepare()


def test_no_file_is_long():
    lengths = {str(path): (ROOT / path).read_text().count("\n") for path in sources()}
    assert not {path: length for path, length in lengths.items() if length > LONGEST}
