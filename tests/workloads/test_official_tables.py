import pytest

from common.cli import UserError
from workloads.official import tables


@pytest.mark.parametrize("document", tables.DOCUMENTS, ids=lambda path: path.parent.name)
def test_the_readme_is_what_the_registry_says(document):
    text = document.read_text("utf-8")
    assert tables.filled(text) == text, "run `python -m workloads.official.tables`"
    assert text.count("<!--table:") == text.count("<!--/-->") > 0


def test_every_table_is_in_a_document():
    text = "".join(document.read_text("utf-8") for document in tables.DOCUMENTS)
    assert all(text.count(f"<!--table: {name}-->") == 1 for name in tables.TABLES)


def test_tables_are_written_anew_and_the_rest_is_left():
    text = "before\n<!--table: targets-->\nold | table\n<!--/-->\nafter <!--/-->"
    filled = tables.filled(text)
    assert filled.startswith("before\n<!--table: targets-->\n| workload")
    assert filled.endswith("|\n<!--/-->\nafter <!--/-->") and "old | table" not in filled
    assert tables.filled(filled) == filled


def test_an_unknown_table_is_named():
    with pytest.raises(UserError, match="unknown table 'sizes'; known: targets, budgets"):
        tables.filled("<!--table: sizes-->\n<!--/-->")
