"""The entries' READMEs hold the tables that the code makes of the points and the published runs."""

import pytest

from analysis import entry_tables
from common.cli import UserError


def test_every_leaderboard_entry_has_a_readme() -> None:
    named = {document.parent.name for document in entry_tables.documents_of_entries()}
    described = {path.parent.name for path in entry_tables.ENTRIES.glob("*/submission_info.yml")}
    assert named == described


@pytest.mark.parametrize(
    "document",
    [*entry_tables.documents_of_entries(), entry_tables.ROOT / "docs" / "official.md"],
    ids=lambda path: str(path.parent.name),
)
def test_its_tables_are_up_to_date(document) -> None:
    assert document.read_text("utf-8") == entry_tables.filled(document), (
        "run: python -m analysis.entry_tables"
    )


def test_what_the_shampoo_entry_s_readme_argues_from() -> None:
    rows = {line.split("|")[1].strip(): line for line in entry_tables.fits_table().splitlines()[2:]}
    v05, v06 = (float(cell) for cell in rows["imagenet_resnet"].split("|")[2:4])
    assert v06 < v05 < 1, "cut off in both versions"
    reached = entry_tables.reached_table("shampoo_submission").splitlines()
    wmt = next(line for line in reached if line.startswith("| wmt "))
    assert wmt.split("|")[6].strip() == "0 of 5", "point 5 misses WMT alone"


def test_an_unknown_table_is_named(tmp_path) -> None:
    document = tmp_path / "shampoo" / "README.md"
    document.parent.mkdir()
    document.write_text("<!--table: nonesuch-->\n<!--/-->\n")
    with pytest.raises(UserError, match="unknown table 'nonesuch'; known: points, winner"):
        entry_tables.filled(document)
