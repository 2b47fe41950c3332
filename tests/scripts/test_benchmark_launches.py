"""Counts of what a plain step dispatches."""

from common import files
from scripts.benchmark import launches, model_shapes
from scripts.local.environment import ROOT


def test_a_small_network_takes_few_operators():
    counted = launches.count(model_shapes.shapes("small_200k"), {})
    assert counted.operators <= 90
    assert counted.dispatched <= 150


def test_the_committed_page_is_of_the_committed_rows():
    committed = ROOT / "results" / "launches" / "launches.json"
    page = committed.with_suffix(".md").read_text("utf-8")
    assert page == launches.page(files.read_json(committed)["rows"])
    assert "with views" in page
