import itertools
import math

import numpy as np
import pandas as pd
import pytest

from analysis.scoring import performance_profile, score_studies, time_to_target, times_table
from analysis.statistics import bootstrap
from tests.analysis.reference import speedup
from workloads.rulesets import ruleset

INF = math.inf
V06 = ruleset("v0.6")


def _studies(cells):
    """Studies of (submission, workload), each as its seconds and steps to the target."""
    rows = [
        (submission, workload, "jax", study, 1, math.isfinite(seconds), seconds, steps)
        for (submission, workload), needed in cells.items()
        for study, (seconds, steps) in enumerate(needed)
    ]
    columns = ["submission", "workload", "framework", "study", "trial", "reached", "seconds"]
    trials = pd.DataFrame(rows, columns=[*columns, "steps"])
    before = {f"earliest_{name}": 0.9 * trials[name] for name in ("seconds", "steps")}
    return score_studies(
        trials.assign(
            evaluation=np.where(trials["reached"], 1, -1),
            last_step=100,
            last_seconds=100.0,
            steady_seconds_per_step=1.0,
            cut=False,
            **before,
        )
    )


CELLS = {
    ("a", "ogbg"): [(10.0, 5), (12.0, 8), (20.0, 10)],
    ("b", "ogbg"): [(20.0, 20), (30.0, 40), (40.0, 30)],
    ("a", "wmt"): [(100.0, 50), (110.0, 55), (INF, INF)],
    ("b", "wmt"): [(90.0, 60), (100.0, 65), (80.0, 50)],
    ("a", "fastmri"): [(7.0, 7)],
    ("b", "fastmri"): [(8.0, 4), (9.0, 5)],
    ("c", "wmt"): [(INF, INF), (INF, INF), (INF, INF)],
}


@pytest.fixture(scope="module")
def intervals():
    return bootstrap(_studies(CELLS), V06, "b", resamples=4000)


def _all_medians(values):
    """The medians of all equally likely draws, one by one."""
    count = len(values)
    return np.array([np.median(draw) for draw in itertools.product(values, repeat=count)])


def test_figures_are_those_of_the_studies_themselves(intervals):
    cells = time_to_target(_studies(CELLS))
    times = times_table(cells)
    profile = performance_profile(times, V06)
    scores = intervals.scores.set_index("submission")
    assert scores["score"].to_dict() == profile.scores.to_dict()
    assert scores["reached"].to_dict() == {"a": 3, "b": 3, "c": 0}
    # The fewest studies of any of its workloads.
    assert scores["studies"].to_dict() == {"a": 1, "b": 2, "c": 3}
    bands = intervals.profiles.pivot(index="tau", columns="submission", values="rho")
    pd.testing.assert_frame_equal(bands, profile.rho, check_names=False)
    speedups = intervals.speedups.set_index("submission")
    for name in "abc":
        assert speedups.loc[name, "ratio"] == pytest.approx(speedup(times, name, "b", V06))
    assert speedups["workloads"].eq(3).all()
    for table in (scores, speedups):
        assert table["ci_low"].isna().tolist() == [True, False, False]


def test_ratio_is_steps_times_cost(intervals):
    ratios = intervals.ratios.set_index(["submission", "workload"])
    row = ratios.loc[("a", "ogbg")]
    assert row["ratio"] == pytest.approx(12 / 30)
    assert row["steps_ratio"] == pytest.approx(8 / 30)
    assert row["step_cost_ratio"] == pytest.approx((12 / 8) / (30 / 30))
    assert row["ratio"] == pytest.approx(row["steps_ratio"] * row["step_cost_ratio"])
    # Between the evaluations before, at 0.9 of the time, the target may have been crossed.
    assert row["earliest"] == pytest.approx(0.9 * 12 / 30)
    assert row["latest"] == pytest.approx(12 / 27)
    draws = np.sort([a / b for a in _all_medians([10, 12, 20]) for b in _all_medians([20, 30, 40])])
    # Sampling noise moves an end by no more than to a neighbouring value.
    assert np.quantile(draws, 0.015) <= row["ci_low"] <= np.quantile(draws, 0.035)
    assert np.quantile(draws, 0.965) <= row["ci_high"] <= np.quantile(draws, 0.985)
    assert row["steps_low"] <= row["steps_ratio"] <= row["steps_high"]
    assert row["cost_low"] <= row["step_cost_ratio"] <= row["cost_high"]
    assert row["studies"] == 3


def test_ratios_where_a_target_is_missed(intervals):
    ratios = intervals.ratios.set_index(["submission", "workload"])
    sometimes = ratios.loc[("a", "wmt")]
    assert sometimes["ratio"] == pytest.approx(110 / 90)
    assert math.isfinite(sometimes["ci_low"]) and sometimes["ci_high"] == INF
    # The factors are of the draws in which both reach it.
    assert math.isfinite(sometimes["steps_high"]) and math.isfinite(sometimes["cost_high"])
    never = ratios.loc[("c", "wmt")]
    assert never["ratio"] == never["ci_low"] == never["ci_high"] == INF
    assert never[["steps_ratio", "step_cost_ratio", "steps_low", "cost_high"]].isna().all()
    few = ratios.loc[("a", "fastmri")]
    assert few["ratio"] == pytest.approx(7 / 8.5) and math.isnan(few["ci_low"])
    against_c = bootstrap(_studies(CELLS), V06, "c", resamples=10).ratios
    row = against_c.set_index(["submission", "workload"]).loc[("a", "wmt")]
    assert row[["ratio", "ci_low", "ci_high", "earliest", "latest"]].isna().all()


def test_a_baseline_met_at_the_first_evaluation_bounds_no_ratio_from_above():
    studies = _studies({("a", "wmt"): [(5.0, 5), (6.0, 6)], ("b", "wmt"): [(4.0, 4), (4.0, 4)]})
    studies.loc[studies["submission"] == "b", "earliest_seconds"] = 0.0
    row = bootstrap(studies, V06, "b", resamples=10).ratios.set_index("submission").loc["a"]
    assert row["latest"] == INF and row["earliest"] == pytest.approx(0.9 * 5.5 / 4)
    assert row["cost_low"] == row["cost_high"] == 1


def test_probabilities_count_ties_half(intervals):
    better = intervals.better.set_index(["a", "b"])["probability"]
    for (a, b), probability in better.items():
        assert probability + better[b, a] == pytest.approx(1.0)
    # A single study says nothing about what another would have given.
    assert ("a", "b") not in better.index and better["b", "c"] == 1.0
    both_miss = {(name, "wmt"): [(INF, INF)] * 2 for name in "ab"}
    tied = bootstrap(_studies(both_miss), V06, None, resamples=10).better
    assert tied["probability"].tolist() == [0.5] * 2


def test_scores_vary_with_every_submission_of_the_pool():
    # `a` has no spread of its own, but the submission that sets the pace has.
    pace = {("a", "wmt"): [(20.0, 1)] * 3, ("b", "wmt"): [(10.0, 1), (15.0, 1), (20.0, 1)]}
    scores = bootstrap(_studies(pace), V06, None).scores.set_index("submission")
    for end, fastest in (("ci_low", 10.0), ("ci_high", 20.0)):
        times = pd.DataFrame({"a": [20.0], "b": [fastest]}, index=["wmt"])
        expected = performance_profile(times, V06).scores["a"]
        assert scores.loc["a", end] == pytest.approx(expected)
    assert scores.loc["b", "ci_low"] == scores.loc["b", "ci_high"] == pytest.approx(1 / 8)


def test_bands_hold_the_profile(intervals):
    bands = intervals.profiles[intervals.profiles["submission"] == "b"]
    assert (bands["ci_low"] <= bands["ci_high"]).all()
    assert bands["ci_low"].between(0, 1).all() and bands["ci_high"].between(0, 1).all()
    assert intervals.profiles[intervals.profiles["submission"] == "a"]["ci_low"].isna().all()


def test_draws_depend_on_names_only():
    studies = _studies(CELLS)
    first = bootstrap(studies, V06, "b", resamples=50)
    again = bootstrap(studies.sample(frac=1, random_state=0), V06, "b", resamples=50)
    for name in ("ratios", "speedups", "scores", "better", "profiles"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(again, name))
    pair = studies[studies["submission"] != "c"]
    alone = bootstrap(pair, V06, "b", resamples=50)
    kept = first.ratios[first.ratios["submission"] != "c"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.ratios, kept)


def test_without_the_baseline_there_are_no_ratios():
    for baseline in (None, "absent"):
        result = bootstrap(_studies(CELLS), V06, baseline, resamples=10)
        assert result.ratios.empty and result.speedups.empty
        assert len(result.scores) == 3
        full = bootstrap(_studies(CELLS), V06, "b", resamples=10)
        assert result.ratios.columns.tolist() == full.ratios.columns.tolist()
        assert result.speedups.columns.tolist() == full.speedups.columns.tolist()
