"""The entries' READMEs hold the tables that the code makes of the points and the published runs."""

import pytest

from analysis import entry_tables
from common.cli import UserError


@pytest.fixture(autouse=True, scope="module")
def known_facts():
    """The real targets: the documents are of logs that were judged by them."""


def test_every_leaderboard_entry_has_a_readme():
    named = {document.parent.name for document in entry_tables.documents_of_entries()}
    described = {path.parent.name for path in entry_tables.ENTRIES.glob("*/submission_info.yml")}
    assert named == described


@pytest.mark.parametrize(
    "document",
    [*entry_tables.documents_of_entries(), *entry_tables.OTHERS],
    ids=lambda path: str(path.relative_to(entry_tables.ROOT)),
)
def test_its_tables_are_up_to_date(document):
    assert document.read_text("utf-8") == entry_tables.filled(document), (
        "run: python -m analysis.entry_tables"
    )


def test_an_unknown_table_is_named(tmp_path):
    document = tmp_path / "shampoo" / "README.md"
    document.parent.mkdir()
    document.write_text("<!--table: nonesuch-->\n<!--/-->\n")
    with pytest.raises(UserError, match="unknown table 'nonesuch'; known: points, winner"):
        entry_tables.filled(document)
