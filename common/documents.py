"""Tables in Markdown documents that are written by code, so that they stay true; and their cells.

What stands between `<!--table: name-->` and `<!--/-->` belongs to the code: lines of their own, or
part of a line.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from common.cli import UserError, near

UNKNOWN = "–"

_SPAN = re.compile(r"(<!--table: *([\w-]+)-->(\n?)).*?(<!--/-->)", re.DOTALL)


def filled(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """`text` with its tables written anew; UserError for a table of an unknown name.

    >>> filled("See <!--table: answer-->\\nold\\n<!--/-->.", {"answer": lambda: "42"})
    'See <!--table: answer-->\\n42\\n<!--/-->.'
    >>> filled("See <!--table: answer-->old<!--/-->.", {"answer": lambda: "42"})
    'See <!--table: answer-->42<!--/-->.'
    """

    def table(match: re.Match[str]) -> str:
        if match[2] not in tables:
            raise UserError(
                f"unknown table {match[2]!r}; known: {', '.join(tables)}{near(tables, match[2])}"
            )
        return f"{match[1]}{tables[match[2]]()}{match[3]}{match[4]}"

    return _SPAN.sub(table, text)


def named(text: str) -> list[str]:
    """The names of a document's tables, in order."""
    return [match[2] for match in _SPAN.finditer(text)]


def table(
    rows: Iterable[Mapping[str, Any] | Sequence[Any]],
    headers: Sequence[str] | Mapping[str, str] = "keys",
    fmt: str = "github",
    left: int | None = None,
) -> str:
    """A table whose cells are shown as they are.

    Args:
      rows: mappings with the same keys, which head the columns, or sequences.
      headers: of sequences; or, by key, of mappings.
      fmt: a format of `tabulate`; the default is Markdown.
      left: number of leading columns aligned left, the others being aligned right; None: all left,
        and Markdown says nothing about alignment.

    >>> print(table([{"size": "8", "time": "0.1"}], left=1, fmt="pipe"))
    | size   |   time |
    |:-------|-------:|
    | 8      |    0.1 |
    """
    body = list(rows)
    align = None
    if left is not None:
        columns = len(body[0]) if body else len(headers)
        align = ["left" if column < left else "right" for column in range(columns)]
    return str(tabulate(body, headers, fmt, colalign=align, disable_numparse=True))


def number(value: float | None, form: str = "") -> str:
    """A cell: `value` in the given format, a dash for None and NaN.

    Without a format: three significant digits, no decimals from 100 on.

    >>> number(0.01234), number(3.14159), number(12345.6), number(None), number(0.5, ".0%")
    ('0.0123', '3.14', '12,346', '–', '50%')
    """
    if value is None or math.isnan(value):
        return UNKNOWN
    return format(value, form or (",.0f" if abs(value) >= 100 else ".3g"))


def ratio(value: float | None, base: float | None) -> float | None:
    """`value / base`; None where one is unknown or the base is not positive."""
    return None if value is None or base is None or not base > 0 else value / base
