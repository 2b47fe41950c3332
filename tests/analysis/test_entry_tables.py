"""The entries' READMEs hold the tables that the code makes of the points and the published runs."""

import pytest

from analysis import entry_tables
from common.cli import UserError
from tests.analysis.conftest import rows_of
from workloads.rulesets import ruleset


@pytest.fixture(autouse=True, scope="module")
def known_facts() -> None:
    """The real targets: the documents are of logs that were judged by them."""


def test_every_leaderboard_entry_has_a_readme() -> None:
    named = {document.parent.name for document in entry_tables.documents_of_entries()}
    described = {path.parent.name for path in entry_tables.ENTRIES.glob("*/submission_info.yml")}
    assert named == described


@pytest.mark.parametrize(
    "document",
    [*entry_tables.documents_of_entries(), *entry_tables.OTHERS],
    ids=lambda path: str(path.relative_to(entry_tables.ROOT)),
)
def test_its_tables_are_up_to_date(document) -> None:
    assert document.read_text("utf-8") == entry_tables.filled(document), (
        "run: python -m analysis.entry_tables"
    )


def test_what_the_shampoo_entry_s_readme_argues_from() -> None:
    rows = {row[0]: row for row in rows_of(entry_tables.fits_table())}
    v05, v06 = map(float, rows["imagenet_resnet"][1:3])
    assert v06 < v05 < 1, "cut off in both versions"
    reached = {
        workload: [int(cell.split()[0]) for cell in cells]
        for workload, *cells in rows_of(entry_tables.reached_table("shampoo_submission"))[1:]
    }
    base = [reached[workload] for workload in ruleset("v0.5").base_workloads]
    met_by_some_point = [max(row[0], row[1], row[4]) for row in base]
    assert met_by_some_point.count(5) == 5
    assert all(met_by_some_point)
    fifth = [row[4] for row in base]
    assert fifth.count(5) == 5
    assert [name for name in ruleset("v0.5").base_workloads if not reached[name][4]] == ["wmt"]
    counts = [sum(count > 0 for count in column) for column in zip(*base, strict=True)]
    assert counts[4] == 7 == max(counts)
    assert counts.count(7) == 1


def test_an_unknown_table_is_named(tmp_path) -> None:
    document = tmp_path / "shampoo" / "README.md"
    document.parent.mkdir()
    document.write_text("<!--table: nonesuch-->\n<!--/-->\n")
    with pytest.raises(UserError, match="unknown table 'nonesuch'; known: points, winner"):
        entry_tables.filled(document)
