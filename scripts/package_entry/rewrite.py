"""Modules under other names: absolute imports of this project become relative ones of a package."""

import ast
import re
from collections.abc import Iterator

from scripts.package_entry.sources import PROJECT, Source

_PROMPT = r"^([ \t]*(?:>>>|\.\.\.) +(?:from|import) +)"
_PROMPTED = re.compile(rf"{_PROMPT}({PROJECT}\b[\w.]*)", re.MULTILINE)
_FROM = re.compile(rb"from[\s\\]+[\w.]+[\s\\]+import")


def place(name: str, entry: str) -> tuple[str, ...]:
    """Where a package of `entry` holds the module `name`, from the package's root down.

    >>> place("submission.entries.nadamw.submission", "nadamw")
    ('submission',)
    >>> place("submission.shampoo.roots", "nadamw")
    ('shampoo', 'roots')
    >>> place("submission", "nadamw")
    ()
    """
    parts = tuple(name.split("."))
    for above in ((PROJECT, "entries", entry), (PROJECT,)):
        if parts[: len(above)] == above:
            return parts[len(above) :]
    raise ValueError(f"{name} is not of {PROJECT}")


def rewritten(source: Source, entry: str, home: str) -> str:
    """The module's code as a package of `entry` holds it; comments and layout stay.

    Args:
      home: the package's own absolute name, which examples in docstrings import from.

    Raises:
      UserError: naming file and line of an import that has no relative form.
    """
    here = place(source.package, entry)
    lines = source.text.encode("utf-8").splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    code = b"".join(lines)
    found = sorted(_statements(source, entry, here), key=lambda pair: -pair[0].lineno)
    for node, statement in found:
        # Columns of `ast` count bytes of UTF-8.
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        old = code[begin:end]
        new = statement if isinstance(node, ast.Import) else _FROM.sub(statement, old, count=1)
        code = code[:begin] + new + code[end:]

    def absolute(match: "re.Match[str]") -> str:
        return match[1] + ".".join((home, *place(match[2].rstrip("."), entry)))

    return _PROMPTED.sub(absolute, code.decode("utf-8"))


def _statements(
    source: Source, entry: str, here: tuple[str, ...]
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bytes]]:
    """Each import of this project, and what takes its place up to the word `import`, or wholly."""
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.ImportFrom) and source.base(node).split(".")[0] == PROJECT:
            base = _relative(place(source.base(node), entry), here)
            yield node, f"from {base} import".encode()
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            if all(name[0] != PROJECT for name in names):
                continue
            (*above, last), alias = names[0], node.names[0].asname
            if len(names) > 1 or alias is None or not above:
                raise source.error(node, f"write `from {PROJECT}... import ...`, alone, instead")
            base = _relative(place(".".join(above), entry), here)
            yield node, f"from {base} import {last} as {alias}".encode()


def _relative(target: tuple[str, ...], here: tuple[str, ...]) -> str:
    """The shortest relative name of `target` within the package `here`."""
    shared = 0
    while shared < min(len(target), len(here)) and target[shared] == here[shared]:
        shared += 1
    return "." * (len(here) - shared + 1) + ".".join(target[shared:])
