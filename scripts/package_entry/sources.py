"""Which modules of `submission` an entry needs, found in its imports without running them."""

import ast
import dataclasses
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.cli import UserError

PROJECT = "submission"
# Rooms that stand beside an entry in this repository and nowhere else.
ELSEWHERE = frozenset({"analysis", "common", "scripts", "tests", "workloads"})
_IMPORTS = (ast.Import, ast.ImportFrom)


@dataclasses.dataclass(frozen=True)
class Source:
    """A module as a package will hold it: without the fall-backs for a machine without `algoperf`.

    Attributes:
      name: as it is imported in this repository, for example `submission.shampoo.roots`.
      path: its file.
      text: its code.
    """

    name: str
    path: Path
    text: str

    @property
    def package(self) -> str:
        """The package that the module's relative imports start from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    def error(self, node: ast.AST, problem: str) -> UserError:
        """A mistake in the module, for a person to mend."""
        return UserError(f"{self.path}:{getattr(node, 'lineno', 1)}: {problem}")

    def base(self, node: ast.ImportFrom) -> str:
        """The absolute name of what `node` imports from."""
        dots = "." * node.level + (node.module or "")
        return importlib.util.resolve_name(dots, self.package) if node.level else dots


@dataclasses.dataclass(frozen=True)
class Reached:
    """What an entry's imports lead to.

    Attributes:
      start: the module that the imports are of.
      sources: modules of this project by name, in order of name, packages among them.
      installed: names of the top-level packages that have to be installed, sorted.
    """

    start: str
    sources: dict[str, Source]
    installed: tuple[str, ...]


def reached(root: Path, start: str) -> Reached:
    """Follows the imports of module `start`, those for type checkers too, below `root`.

    Raises:
      UserError: naming file and line of an import that a package cannot hold.
    """
    found: dict[str, Source] = {}
    installed: set[str] = set()
    pending = [start]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        path = _file(root, name)
        if path is None:
            raise UserError(f"there is no module {name} in {root}")
        source = Source(name, path, without_fallbacks(path.read_text("utf-8")))
        found[name] = source
        if "." in name:  # importing a module runs the packages above it
            pending.append(name.rpartition(".")[0])
        for needed in _needed(root, source):
            if needed.partition(".")[0] == PROJECT:
                pending.append(needed)
            else:
                installed.add(needed.partition(".")[0])
    outside = installed - set(sys.stdlib_module_names)
    return Reached(start, dict(sorted(found.items())), tuple(sorted(outside)))


def _needed(root: Path, source: Source) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = source.base(node)
            below = [f"{base}.{alias.name}" for alias in node.names]
            names = [base, *(name for name in below if _file(root, name) is not None)]
        else:
            continue
        for name in names:
            if name.partition(".")[0] in ELSEWHERE:
                raise source.error(
                    node, f"imports {name}, which is no part of {PROJECT} and so of no package"
                )
            yield name


def _file(root: Path, name: str) -> Path | None:
    if name.partition(".")[0] != PROJECT:
        return None
    place = root.joinpath(*name.split("."))
    for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


def without_fallbacks(text: str) -> str:
    """`text` without what stands in for a package that is missing outside the benchmark.

    Of `try: from algoperf import spec` with `except ImportError: from workloads import spec`, and
    of all such pairs whose second half imports from this repository alone, the first half stays.

    >>> print(without_fallbacks('''
    ... try:
    ...     from algoperf import spec
    ... except ImportError:
    ...     from workloads import spec
    ... ''').strip())
    from algoperf import spec
    """
    lines = text.splitlines(keepends=True)
    nodes = ast.walk(ast.parse(text))
    found = [node for node in nodes if isinstance(node, ast.Try) and _is_fallback(node)]
    for node in sorted(found, key=lambda node: node.lineno, reverse=True):
        indent = " " * (node.body[0].col_offset - node.col_offset)
        body = lines[node.lineno : node.body[-1].end_lineno]
        lines[node.lineno - 1 : node.end_lineno] = [line.removeprefix(indent) for line in body]
    return "".join(lines)


def _is_fallback(node: ast.Try) -> bool:
    if node.orelse or node.finalbody or len(node.handlers) != 1:
        return False
    handler = node.handlers[0]
    return (
        isinstance(handler.type, ast.Name)
        and handler.type.id in ("ImportError", "ModuleNotFoundError")
        and all(isinstance(part, _IMPORTS) for part in node.body)
        and all(name in ELSEWHERE for name in _tops(handler.body))
    )


def _tops(body: Sequence[ast.stmt]) -> list[str]:
    """The top-level packages that statements import, "" for those that import nothing."""
    tops = []
    for part in body:
        if isinstance(part, ast.ImportFrom):
            tops.append((part.module or "").partition(".")[0])
        elif isinstance(part, ast.Import):
            tops += [alias.name.partition(".")[0] for alias in part.names]
        else:
            tops.append("")
    return tops
