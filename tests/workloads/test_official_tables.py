import pytest

from common import documents
from workloads.official import tables


@pytest.mark.parametrize("document", tables.DOCUMENTS, ids=lambda path: path.parent.name)
def test_documents_say_what_the_facts_say(document):
    text = document.read_text("utf-8")
    filled = documents.filled(text, tables.TABLES)
    assert filled == text, "run `python -m workloads.official.tables`"
    assert text.count("<!--table:") == text.count("<!--/-->") > 0


def test_every_table_is_in_a_document():
    text = "".join(document.read_text("utf-8") for document in tables.DOCUMENTS)
    assert all(text.count(f"<!--table: {name}-->") == 1 for name in tables.TABLES)
