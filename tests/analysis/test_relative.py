import numpy as np
import pandas as pd
import pytest

from analysis.relative import relative
from tests.analysis.conftest import judge_folder, judge_published
from tests.analysis.made_up import write_trial


def _rows(root, column):
    table = relative(judge_folder(root, "adamw"), column)
    return table.set_index(["workload", "submission"])


def test_ratios_are_to_the_baselines_median(tmp_path):
    # AdamW: trial 1 meets the target at the earliest evaluation, so both its numbers count.
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.95], seconds_per_step=0.3)
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [0.5, 0.5, 0.95], seconds_per_step=0.1)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5, 0.5, 0.95], seconds_per_step=0.1)
    for column, ratio in (("steps", 1.5), ("seconds", 0.5)):
        row = _rows(tmp_path, column).loc[("mnist_vit", "shampoo")]
        assert (row["kind"], row["ratio"]) == ("ratio", pytest.approx(ratio))
        # One study has no interval.
        assert pd.isna(row["low"]) and row["studies"] == 1


def test_a_baseline_that_misses_bounds_the_ratio_by_what_it_surely_needed(tmp_path):
    # One study of AdamW reaches the target at 40 of its 100 steps, one stops at 100 without it.
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.95, 0.5, 0.5, 0.5])
    write_trial(tmp_path, "adamw", "mnist_vit", 1, 1, [0.5] * 8)
    write_trial(tmp_path, "adamw", "mnist_vit", 1, 2, [0.5] * 5)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5, 0.5, 0.95])
    rows = _rows(tmp_path, "steps")
    assert rows["kind"].to_dict() == {
        ("mnist_vit", "shampoo"): "bound",
        ("mnist_vit", "adamw"): "missed",
    }
    assert rows.loc[("mnist_vit", "shampoo"), "ratio"] == pytest.approx(60 / 70)


def test_an_interval_is_open_where_a_draw_misses(tmp_path):
    for study, hit in enumerate((2, 2, 0)):
        values = [0.5] * (hit - 1) + [0.95] if hit else [0.5] * 9
        write_trial(tmp_path, "shampoo", "mnist_vit", study, 1, values)
        write_trial(tmp_path, "adamw", "mnist_vit", study, 1, [0.5, 0.95])
    for column in ("steps", "seconds"):
        row = _rows(tmp_path, column).loc[("mnist_vit", "shampoo")]
        assert (row["low"], row["high"]) == (1, np.inf)


def test_only_workloads_that_the_baseline_and_others_have_run(tmp_path):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.95])
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.95])
    write_trial(tmp_path, "adamw", "stdlib_lm", 0, 1, [5.0])
    write_trial(tmp_path, "shampoo", "flights_dlrm", 0, 1, [0.3])
    assert set(_rows(tmp_path, "steps").index.get_level_values(0)) == {"mnist_vit"}


def test_steps_that_are_counted_otherwise_are_not_compared():
    judged = judge_published("v0.5")
    assert sorted(judged.other_steps) == ["lawa_ema", "lawa_queue"]
    steps = relative(judged, "steps").set_index(["workload", "submission"])["kind"]
    seconds = relative(judged, "seconds").set_index(["workload", "submission"])["kind"]
    assert steps["fastmri", "lawa_queue"] == "other"
    assert seconds["fastmri", "lawa_queue"] == "ratio"
    assert any(row.reason.startswith("lawa_queue: a logged step takes") for row in judged.problems)
