"""Tables that a page of GitHub shows without scrolling."""

import re
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "results"
# Characters of a line in GitHub's column of text.
WIDEST = 120


def widths(text):
    """The least width of each table of a document, in which cells break at spaces only."""
    least_widths = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
        rows = [row for row in rows if not re.fullmatch(r"[\s:-]+", "".join(row))]
        # A link takes the room of its text.
        cells = [[re.sub(r"\]\([^)]*\)", "", cell) for cell in row] for row in rows]
        words = [[max(map(len, cell.split()), default=0) for cell in row] for row in cells]
        least_widths.append(sum(max(column) + 3 for column in zip(*words, strict=True)))
    return least_widths


@pytest.mark.parametrize(
    "path", sorted(RESULTS.rglob("*.md")), ids=lambda path: str(path.relative_to(RESULTS))
)
def test_tables_of_results_fit(path):
    assert max(widths(path.read_text()), default=0) <= WIDEST
