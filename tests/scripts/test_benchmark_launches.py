"""Counts of what a plain step dispatches."""

from scripts.benchmark import launches, model_shapes


def test_every_operator_has_a_phase_and_a_small_network_takes_few() -> None:
    counted = launches.count(model_shapes.shapes("small_200k"), {})
    assert sum(counted.phases.values()) == counted.operators <= 90
    assert counted.dispatched <= 150
    assert {"grads in", "factors", "products", "norms", "apply"} <= counted.phases.keys()
    assert counted.phases[launches._OTHER] <= 4


def test_the_page_has_totals_and_phases() -> None:
    row = {"network": "tiny", "variant": "default", "parameters": 3, "operators": 5}
    text = launches.page([{**row, "dispatched": 8, "phases": {"factors": 4, "norms": 1}}])
    assert "| tiny" in text
    assert "with views" in text
    assert "factors" in text.split("## By phase")[1]
