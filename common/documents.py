"""Tables in Markdown documents that are written by code, so that they stay true.

What stands between `<!--table: name-->` and `<!--/-->` belongs to the code.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from common.cli import UserError

_SPAN = re.compile(r"(<!--table: *(\w+)-->\n).*?(<!--/-->)", re.DOTALL)


def filled(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """`text` with its tables written anew; UserError for a table of an unknown name.

    >>> filled("See <!--table: answer-->\\nold\\n<!--/-->.", {"answer": lambda: "42"})
    'See <!--table: answer-->\\n42\\n<!--/-->.'
    """

    def table(match: re.Match[str]) -> str:
        if match[2] not in tables:
            raise UserError(f"unknown table {match[2]!r}; known: {', '.join(tables)}")
        return f"{match[1]}{tables[match[2]]()}\n{match[3]}"

    return _SPAN.sub(table, text)


def table(
    rows: Iterable[Mapping[str, Any]] | Iterable[Sequence[Any]], headers: Sequence[str] = "keys"
) -> str:
    """A Markdown table whose cells are shown as they are.

    Args:
      rows: with the same keys, which head the columns, or sequences.
      headers: of sequences.
    """
    return str(tabulate(list(rows), headers, tablefmt="github", disable_numparse=True))
