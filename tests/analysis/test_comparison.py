import math
from pathlib import Path

import pandas as pd
import pytest

from analysis.comparison import score_workloads
from analysis.logs import read_logs
from analysis.scoring import score_trials
from tests.analysis.made_up import write_trial

INF = math.inf


def _compare(root: Path) -> pd.DataFrame:
    return score_workloads(score_trials(read_logs(root).frame), "adamw")


def test_a_steps_cost_is_the_median_over_whole_trials(tmp_path: Path) -> None:
    # The costly trial is the only one that reaches the target.
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.95], seconds_per_step=0.4)
    for trial, cost in ((2, 0.1), (3, 0.2)):
        write_trial(tmp_path, "adamw", "mnist_vit", 0, trial, [0.5], seconds_per_step=cost)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.95], seconds_per_step=0.3)
    table = _compare(tmp_path).set_index("submission")
    assert table["steady_seconds_per_step"].to_dict() == pytest.approx(
        {"adamw": 0.2, "shampoo": 0.3}
    )
    assert table.loc["shampoo", "steady_cost_ratio"] == pytest.approx(1.5)
    assert table.loc["shampoo", "seconds_ratio"] == pytest.approx(0.75)


def test_runs_are_counted_with_those_missing_or_unfinished(tmp_path: Path) -> None:
    for study, trial in ((0, 1), (0, 2), (1, 1)):
        write_trial(tmp_path, "adamw", "mnist_vit", study, trial, [0.5], reason="steps")
    write_trial(tmp_path, "adamw", "mnist_vit", 2, 2, [0.5])
    (row,) = _compare(tmp_path).itertuples()
    assert (row.points, row.studies, row.runs, row.unfinished) == (2, 3, 4, 1)


def test_ratios_of_lone_trials_multiply(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5] * 9 + [0.95], seconds_per_step=0.1)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5] * 4 + [0.95], seconds_per_step=0.15)
    table = _compare(tmp_path).set_index("submission")
    ratios = table[["steps_ratio", "steady_cost_ratio", "seconds_ratio"]]
    assert ratios.loc["adamw"].tolist() == [1, 1, 1]
    assert ratios.loc["shampoo"].tolist() == pytest.approx([0.5, 1.5, 0.75], rel=1e-12)


def test_ratios_where_the_target_is_missed(tmp_path: Path) -> None:
    hit, miss = [0.5, 0.95], [0.5] * 4
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, hit)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, miss, seconds_per_step=0.1)
    write_trial(tmp_path, "adamw", "stdlib_lm", 0, 1, [9.0])
    write_trial(tmp_path, "shampoo", "stdlib_lm", 0, 1, [5.0])
    write_trial(tmp_path, "shampoo", "flights_dlrm", 0, 1, [0.3])
    table = _compare(tmp_path)
    shampoo = table[table["submission"] == "shampoo"].set_index("workload")
    assert shampoo.loc["mnist_vit", "seconds_ratio"] == INF
    assert shampoo.loc["mnist_vit", "steady_cost_ratio"] == pytest.approx(2)
    assert math.isnan(shampoo.loc["stdlib_lm", "seconds_ratio"])
    assert shampoo.loc["stdlib_lm", "steady_cost_ratio"] == pytest.approx(1)
    assert shampoo.loc["flights_dlrm", ["seconds_ratio", "steady_cost_ratio"]].isna().all()
