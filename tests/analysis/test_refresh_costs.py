"""Seconds by refresh interval, of made-up steps and costs."""

import math

import pandas as pd
import pytest

from analysis import methods, refresh_costs


@pytest.fixture
def steps():
    """Two workloads, two seeds; an interval of 1 halves the steps of the first."""
    trials = pd.MultiIndex.from_product([["one", "two"], [1, 2]], names=["workload", "study"])
    columns = {name: [100.0, 200.0, 50.0, 50.0] for name, _ in refresh_costs.INTERVALS.values()}
    columns["interval1"] = [50.0, 100.0, 50.0, 50.0]
    columns["interval50"] = [200.0, math.inf, 50.0, 50.0]
    return pd.DataFrame(columns, trials)


def test_steps_are_over_the_bases_and_without_what_misses(steps):
    ratios = refresh_costs.steps_ratios(steps)
    assert ratios.loc["one"].to_dict() == pytest.approx({1: 0.5, 10: 1, 20: 1, 50: 2, 100: 1})
    assert ratios.loc["two"].tolist() == pytest.approx([1] * 5)


def test_seconds_are_steps_times_costs_and_the_last_row_takes_the_least(steps, tmp_path):
    path = tmp_path / "step_cost.csv"
    lines = ["workload,entry,milliseconds,ratio"]
    for workload in ("one", "two"):
        for _, name in refresh_costs.INTERVALS.values():
            cost = {"interval1": 16.0, "interval100": 5.0 if workload == "two" else 10.0}
            lines.append(f"{workload},{name},{cost.get(name, 10.0)},1.0")
    path.write_text("\n".join(lines) + "\n")
    table = refresh_costs.seconds_table(
        refresh_costs.steps_ratios(steps), refresh_costs.cost_ratios(path)
    )
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:5]]
        for cells in (line.split("|") for line in table.splitlines()[2:])
    }
    assert rows["1"] == ["0.71", "1.60", "1.13"]
    assert rows["20"] == ["1.00", "1.00", "1.00"]
    assert rows["50"] == ["1.41", "1.00", "1.41"]
    # 0.8 of the first, with an interval of 1, and 0.5 of the second, with 100.
    assert rows["the best of each workload"][2] == "0.63"


def test_every_interval_is_one_of_a_variant_or_of_the_entry():
    variants = methods._variants()
    for interval, (name, _) in refresh_costs.INTERVALS.items():
        if name != methods.BASE:
            assert variants[name]["point"] == {"refresh_interval": interval}
