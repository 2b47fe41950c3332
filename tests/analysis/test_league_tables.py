"""What documents say of the league's committed logs, and that they say it."""

import csv
import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from analysis import league_tables
from common.cli import UserError
from submission.shampoo.presets import shampoo
from tests.analysis.conftest import rows_of
from workloads import registry

ROOT = Path(__file__).parents[2]
LEAGUE = league_tables.LEAGUE


@pytest.fixture(autouse=True, scope="module")
def known_facts():
    """The real targets: the documents are of logs that were judged by them."""


def test_the_readme_s_table_has_every_stand_in_and_the_numbers_of_the_report():
    head, *rows = rows_of(league_tables.study_table())
    assert {row[0] for row in rows} == set(registry.names("standin"))
    with (LEAGUE / "report" / "time_to_target.csv").open() as stream:
        times = {(row["submission"], row["workload"]): row for row in csv.DictReader(stream)}
    steps = next(place for place, name in enumerate(head) if name.startswith("steps"))
    for row in rows:
        median = float(times[row[1].lower(), row[0]]["median_steps"])
        expected = f"{median:g}" if math.isfinite(median) else "not reached"
        assert row[steps].split(" (")[0] == expected


def test_the_report_is_of_the_committed_logs():
    with (LEAGUE / "report" / "time_to_target.csv").open() as stream:
        reported = {
            (row["submission"], row["workload"]): float(row["median_steps"])
            for row in csv.DictReader(stream)
        }
    cells = league_tables.judged().cells
    judged_cells = dict(
        zip(
            zip(cells["submission"], cells["workload"], strict=True),
            cells["median_steps"],
            strict=True,
        )
    )
    assert judged_cells == reported


def test_losses_are_told():
    cells = pd.DataFrame(
        [
            ("shampoo", "a", 10.0, 100.0),
            ("shampoo", "b", 12.0, 80.0),
            ("shampoo", "c", math.inf, math.inf),
            ("adamw", "a", 11.0, 90.0),
            ("adamw", "b", 10.0, 100.0),
            ("adamw", "c", 10.0, 100.0),
        ],
        columns=["submission", "workload", "median_seconds", "median_steps"],
    )
    assert league_tables.losses_text(cells) == (
        "in seconds AdamW is ahead on `b` (1.20), `c` (Shampoo misses); "
        "in steps AdamW is ahead on `a` (1.11), `c` (Shampoo misses)"
    )
    assert league_tables.losses_text(cells[cells["workload"] == "a"]).startswith(
        "in seconds AdamW is ahead on none;"
    )


def test_costs_are_those_of_the_interleaved_measurement(tmp_path):
    path = tmp_path / "step_cost.csv"
    path.write_text(
        "workload,entry,milliseconds,ratio\na,shampoo,1,1.0\nb,shampoo,2,4.0\nb,adamw,2,1.0\n"
    )
    ratios = league_tables.cost_ratios(path)
    assert league_tables.costs_text(ratios) == "1 to 4 times, geometric mean 2.00,"
    path.write_text("workload,entry,milliseconds,ratio\nb,adamw,2,1.0\n")
    with pytest.raises(UserError, match="no rows of shampoo"):
        league_tables.cost_ratios(path)


def test_the_readme_s_code_is_the_first_point_of_the_shampoo_entry():
    point = json.loads((ROOT / "workloads/standin/points/shampoo.json").read_text())[0]
    code = (ROOT / "README.md").read_text().split("optimizer = shampoo(\n")[1].split(")\n```")[0]
    given = eval(f"dict({code.split(',', 1)[1]})")  # the README's own text
    betas = (1 - point["one_minus_beta1"], 1 - point["one_minus_beta2"])
    assert given["lr"] == pytest.approx(point["learning_rate"], rel=0.01)
    assert given["betas"] == pytest.approx(betas, abs=5e-5)
    assert given["weight_decay"] == pytest.approx(point["weight_decay"], rel=0.01)
    optimizer = shampoo([torch.nn.Parameter(torch.eye(4))], **given)
    (group,) = optimizer.param_groups
    for name in ("nesterov", "refresh_interval"):
        assert group[name] == point[name]
    assert f"exponent={point['exponent']}," in repr(optimizer)
