import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis import step_cost
from common.cli import UserError
from tests.analysis.looks import flaws

Write = Callable[[str, Any], Path]


def _row(name: str, plain: float, refresh: float | None, size: int = 8) -> dict[str, Any]:
    part = 0 if refresh is None else refresh - plain
    amortised = {str(interval): plain + part / interval for interval in (1, 10, 100)}
    millis = {"plain": plain, "refresh": refresh, "amortised": amortised}
    return {"optimizer": name, "failure": None, "milliseconds": millis, "state_bytes": size}


def _network(*rows: dict[str, Any]) -> dict[str, Any]:
    settings = {"device": "cpu", "threads": 1}
    return {"parameters": 1_500_000, "settings": settings, "rows": list(rows)}


NETWORK = _network(
    _row("adamw", 1.0, None),
    _row("ours_shampoo", 10.0, 60.0, 16),
    _row("meta_shampoo", 20.0, 120.0, 24),
    _row("po_soap", 15.0, 30.0),
)


def test_costs_and_those_of_adamw_beside_them(write_json: Write) -> None:
    path = write_json("cpu.json", {"net": NETWORK})
    table = step_cost.read_step_costs([path])
    rows = table.set_index("optimizer")
    assert rows.loc["ours_shampoo", ["plain", "at_1", "at_10", "at_100"]].tolist() == [
        *(10, 60),
        pytest.approx(15),
        pytest.approx(10.5),
    ]
    assert math.isnan(rows.loc["adamw", "refresh"])
    assert (rows["adamw_at_10"] == 1).all() and (rows["adamw_state_bytes"] == 8).all()


def test_factors_are_of_the_others_that_precondition(write_json: Write) -> None:
    table = step_cost.read_step_costs([write_json("cpu.json", {"net": NETWORK})])
    factors = step_cost.cheaper(table, "ours_shampoo", "refresh").set_index("optimizer")["factor"]
    assert factors.to_dict() == {"meta_shampoo": 2, "po_soap": 0.5}


def test_what_failed_is_left_out_and_another_file_is_a_users_error(write_json: Write) -> None:
    failed = {**_row("hb_soap", 1.0, 2.0), "failure": "out of memory"}
    path = write_json("a.json", {"net": _network(_row("adamw", 1.0, None), failed)})
    assert step_cost.read_step_costs([path])["optimizer"].tolist() == ["adamw"]
    lacking = {"optimizer": "po_dash", "failure": None, "milliseconds": {}}
    for content in ([1, 2], {"settings": {}}, {"net": _network(lacking)}):
        with pytest.raises(UserError, match=r"b\.json holds no costs of steps"):
            step_cost.read_step_costs([write_json("b.json", content)])


def test_costs_are_drawn_over_adamws(write_json: Write) -> None:
    networks = {"net": NETWORK, "small": _network(*NETWORK["rows"][:2])}
    table = step_cost.read_step_costs([write_json("cpu.json", networks)])
    figure = step_cost.cost_figure(table)
    assert flaws(figure) == []
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["Shampoo (ours)", "Shampoo (Meta)", "SOAP (pytorch-optimizer)"]
    points = [line.get_xdata()[0] for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert points[:3] == pytest.approx([60, 15, 10.5])
    assert [text.get_text() for text in figure.axes[1].texts].count("not timed") == 2


def test_staggering_is_drawn_as_measured(write_json: Write) -> None:
    rows = [
        {"variant": name, "wall": {"median": 8.0, "p95": 10.0, "p99": 14.0, "max": worst}}
        for name, worst in (("together", 65.0), ("staggered", 16.0))
    ]
    figure, table = step_cost.staggering_figure(write_json("s.json", {"rows": rows}))
    assert table["max"].tolist() == [65, 16]
    assert flaws(figure) == []
    with pytest.raises(UserError, match="holds no staggering"):
        step_cost.staggering_figure(write_json("t.json", {"rows": [{"variant": "x"}]}))


def test_the_committed_measurements_are_readable() -> None:
    folder = Path(__file__).parents[2] / "results" / "step_cost"
    paths = [path for path in folder.rglob("*.json") if not path.stem.endswith("staggering")]
    table = step_cost.read_step_costs(paths)
    assert "ours_shampoo" in set(table["optimizer"])
    assert table["at_10"].gt(0).all()
