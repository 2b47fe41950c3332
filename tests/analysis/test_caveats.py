"""What documents say of dropout, targets and code, from the league's committed logs."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from analysis import caveats, dropout, league_tables
from analysis.judgement import medians_of
from analysis.league_standings import compared
from analysis.scoring import times_table
from tests.analysis.conftest import rows_of


@pytest.fixture(autouse=True, scope="module")
def known_facts() -> None:
    """The real targets: the documents are of logs that were judged by them."""


def test_seconds_without_dropout_are_steps_times_their_costs(tmp_path: Path) -> None:
    pool = league_tables.judged()
    steps = times_table(pool.cells, "median_steps")
    rows = [f"{name},{entry},2000,1" for name in steps.index for entry in steps.columns]
    path = tmp_path / "step_cost.csv"
    path.write_text("\n".join(["workload,entry,milliseconds,ratio", *rows, ""]))
    pd.testing.assert_frame_equal(caveats.seconds_without_dropout(pool, path), 2 * steps)


def test_the_ratio_without_dropout_is_that_of_steps_times_costs() -> None:
    pool = league_tables.judged()
    result = caveats.without_dropout(pool, "shampoo")
    beside = compared(pool, "shampoo", "adamw")
    costs = league_tables.cost_ratios()
    assert result.both == beside.both
    assert min(costs) <= result.ratio / beside.steps <= max(costs)


def test_workloads_on_which_the_baseline_alone_drops_out_are_counted() -> None:
    pool = league_tables.judged()
    rates = {
        (row.entry, row.workload): dropout.rate_of(row.hyperparameters)
        for row in pool.points[pool.points["best"]].itertuples()
    }
    medians = medians_of(pool, "shampoo", "steps")
    reached = medians.index[medians.map(math.isfinite).all(axis=1)]
    differing = [name for name in reached if rates["adamw", name] > rates["shampoo", name]]
    result = caveats.without_dropout(pool, "shampoo")
    assert (result.differing, result.both) == (len(differing), len(reached))
    assert f"on {len(differing)} of the {len(reached)} workloads" in caveats.dropout_text(pool)


def test_scores_without_dropout_stand_in_the_order_of_the_standings() -> None:
    rows = rows_of(league_tables.standings(league_tables.judged(), "shampoo_ema"))[1:]
    scores = [float(score) for score in caveats.scores_without_dropout().split(", ")]
    assert len(scores) == len(rows)
    assert all(0 <= score <= 1 for score in scores)


def test_the_study_s_code_is_that_of_its_manifest(tmp_path: Path) -> None:
    runs = [
        {"command": "-m scripts.study", "started": "2026-01-02T03", "git_commit_hash": "a" * 40},
        {"command": "-m scripts.league.cost", "started": "2026-01-03", "git_commit_hash": "b" * 40},
    ]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"invocations": runs}))
    assert caveats.study_run_text(path) == "on 2026-01-02, at the code of commit aaaaaaaa"
