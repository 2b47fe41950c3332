"""The long tables of a report: whole while they fit a page's width, else folded by workload."""

import html
import math
import re

from analysis import style, tables
from analysis.headline import hero_of
from analysis.judgement import Judgement
from analysis.texts import seconds_text

# As many letters as fit beside each other in GitHub's column, of which the room around a cell takes
# some; and rows that one still reads.
WIDEST, _AROUND = 125, 3
_ROWS, _POINTS = 40, 24


def times(judged: Judgement) -> str:
    """Time to target of every entry on every workload: one table, or one folded per workload."""
    table = tables.summary_table(judged)
    if len(judged.cells) <= _ROWS and len(judged.entries) <= 4 and rendered_width(table) <= WIDEST:
        return table
    blocks = {name: tables.summary_table(judged, workload=name) for name in judged.facts}
    return "\n\n".join(folded(_summary(judged, name), text) for name, text in blocks.items())


def points(judged: Judgement) -> str:
    """All points in one table, folded if it is long."""
    note = "Each entry's search-space points, over studies; all of them are in `points.csv`."
    table = tables.points_table(judged.points)
    count = len(judged.points)
    return f"{note}\n\n{table if count <= _POINTS else folded(f'All {count} points', table)}"


def folded(summary: str, text: str) -> str:
    """Text that a click on its summary, which is HTML, unfolds."""
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def rendered_width(table: str) -> int:
    """A Markdown table's width in letters where it is shown: headings wrap between words.

    >>> rendered_width("| a long heading   | b   |\\n|:---|---:|\\n| xy     | &lt;1 |")
    15
    """
    rows = [
        [html.unescape(cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in table.splitlines()
        if not re.fullmatch(r"[|:\- ]+", line)
    ]
    rows[0] = [max(cell.split() or [""], key=len) for cell in rows[0]]
    return sum(max(map(len, column)) + _AROUND for column in zip(*rows, strict=True))


def _summary(judged: Judgement, workload: str) -> str:
    """A workload's times in a line: those of the two that the report is about, and the fastest."""
    cells = judged.cells[judged.cells["workload"] == workload]
    seconds = cells.set_index("submission")["median_seconds"]
    fastest = str(seconds.idxmin()) if seconds.map(math.isfinite).any() else None
    shown = [name for name in (hero_of(judged), judged.baseline) if name in seconds.index]
    parts = [f"{style.label(str(name))} {_words(seconds[name])}" for name in shown]
    if fastest is not None and fastest not in shown:
        parts.append(f"fastest {style.label(fastest)} {_words(seconds[fastest])}")
    text = f"{workload}: {', '.join(parts)}"
    if runs := tables.common_runs(cells):
        text += f"; {runs} trials for all"
    return html.escape(text, quote=False)


def _words(seconds: float) -> str:
    text = seconds_text(seconds)
    return f"{text} s" if math.isfinite(seconds) else text
