import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import scoring
from analysis.logs import read_logs
from tests.analysis.made_up import FACTS, write_trial

INF = math.inf


def _trials(root):
    return scoring.score_trials(read_logs(root).frame)


def test_first_evaluation_that_meets_the_target_counts(tmp_path):
    # The target is met inclusively, a later loss of it does not matter.
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.9, 0.8, 0.95])
    write_trial(tmp_path, "adamw", "flights_dlrm", 0, 1, [0.41, 0.5, 0.4, 0.39])
    table = _trials(tmp_path).set_index("workload")
    assert table["evaluation"].to_dict() == {"mnist_vit": 1, "flights_dlrm": 2}
    assert table["steps"].to_dict() == {"mnist_vit": 40, "flights_dlrm": 60}
    assert table["seconds"].to_dict() == {"mnist_vit": 2.0, "flights_dlrm": 3.0}
    assert table["last_step"].eq(80).all() and table["last_seconds"].eq(4.0).all()
    assert table["evaluations"].eq(4).all() and table["evaluation_period"].eq(1.0).all()
    # The target was really crossed after the evaluation before.
    assert table["earliest_seconds"].to_dict() == {"mnist_vit": 1.0, "flights_dlrm": 2.0}


def test_the_first_evaluation_may_meet_the_target_and_nan_never_does(tmp_path):
    cases = [[math.nan], [0.5], [math.nan, 0.5, math.nan], [0.95], [math.nan, 0.95]]
    for trial, values in enumerate(cases, start=1):
        write_trial(tmp_path, "adamw", "mnist_vit", 0, trial, values)
    trials = _trials(tmp_path)
    assert trials["evaluation"].tolist() == [-1, -1, -1, 0, 1]
    assert trials["evaluation_period"].isna().tolist() == [True, True, False, True, False]
    missed = trials[~trials["reached"]]
    names = ["steps", "seconds", "earliest_seconds"]
    assert len(missed) == 3 and np.isinf(missed[names]).all(axis=None)
    # Nothing was evaluated before the first: the target was crossed at some time after 0.
    assert trials["earliest_seconds"].tolist() == [*[INF] * 3, 0.0, 1.0]


def test_a_step_costs_what_it_costs_after_the_first_evaluation():
    # The first step compiles for 100 s; the others take 2 s.
    rows = [("a", 1, 100.0), ("a", 51, 200.0), ("b", 1, 100.0), ("c", 50, 100.0)]
    frame = pd.DataFrame(rows, columns=["submission", "global_step", "score"]).assign(
        workload="mnist_vit",
        framework="jax",
        study=0,
        trial=1,
        hyperparameters="",
        finished=True,
        cut=False,
    )
    trials = scoring.score_trials(frame.assign(validation_metric=math.nan)).set_index("submission")
    costs = trials["steady_seconds_per_step"].to_dict()
    assert costs["a"] == costs["c"] == 2 and math.isnan(costs["b"])


def test_the_earliest_evaluation_is_official_the_least_time_the_written_rule(tmp_path):
    hit = [0.5, 0.95]
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, hit, seconds_per_step=0.3)
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [0.5, *hit], seconds_per_step=0.1)
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 3, [0.5], seconds_per_step=0.1)
    write_trial(tmp_path, "adamw", "mnist_vit", 1, 2, [0.5] * 3, seconds_per_step=0.1)
    write_trial(tmp_path, "adamw", "mnist_vit", 1, 1, [0.5] * 2, seconds_per_step=0.2)
    trials = _trials(tmp_path)
    official, fastest = scoring.score_studies(trials), scoring.score_studies(trials, "fastest")
    assert official["trial"].tolist() == [1, -1] and fastest["trial"].tolist() == [2, -1]
    assert official["steps"].tolist() == [40, INF] and fastest["steps"].tolist() == [60, INF]
    assert official["seconds"].tolist() == pytest.approx([12, INF])
    assert fastest["seconds"].tolist() == pytest.approx([6, INF])
    assert official["earliest_seconds"].tolist() == pytest.approx([6, INF])
    assert official["steady_seconds_per_step"].tolist() == pytest.approx([0.1, 0.15])
    # A study that misses needed at least as much as its shortest trial.
    assert official["last_step"].tolist() == [20, 40]
    assert official["last_seconds"].tolist() == pytest.approx([2, 6])
    (row,) = scoring.compare_rules(trials).itertuples()
    assert (row.study, row.excess) == (0, pytest.approx(1.0))


@pytest.mark.parametrize(
    ("tied", "picked"), [((1, 2, 3, 4, 5), 5), ((1, 2, 3, 4), 3), ((2, 7, 6), 2), ((7, 6), 6)]
)
def test_tied_evaluations_are_picked_as_the_official_code_lists_them(tmp_path, tied, picked):
    for trial in (*tied, 9):
        values = [0.5] * (1 + (trial == 9)) + [0.95]
        cost = 0.1 + 0.01 * trial
        write_trial(tmp_path, "adamw", "mnist_vit", 0, trial, values, seconds_per_step=cost)
    trials = _trials(tmp_path)
    for rows in (trials, trials[::-1]):
        (row,) = scoring.score_studies(rows).itertuples()
        assert (row.trial, row.steps) == (picked, 40)
        assert row.seconds == pytest.approx(40 * (0.1 + 0.01 * picked))
        (row,) = scoring.score_studies(rows, "fastest").itertuples()
        assert row.trial == min(tied)


@pytest.mark.parametrize(
    ("hits", "median"),
    [([2], 40), ([2, 4], 60), ([2, 3, 9], 60), ([2, 3, 0], 60), ([2, 0], INF), ([0, 0, 2], INF)],
)
def test_median_over_studies_counts_a_missed_study_as_infinite(tmp_path, hits, median):
    for study, hit in enumerate(hits):
        values = [0.5] * (hit - 1) + [0.95] if hit else [0.5] * 10
        write_trial(tmp_path, "adamw", "mnist_vit", study, 1, values)
    (row,) = scoring.time_to_target(scoring.score_studies(_trials(tmp_path))).itertuples()
    assert row.median_steps == median
    assert row.earliest_seconds == pytest.approx(0.05 * (median - 20))
    assert row.studies == len(hits) and row.reached == sum(hit > 0 for hit in hits)
    assert row.best_trials == " ".join("1" if hit else "-" for hit in hits)


def test_times_table_leaves_cells_without_runs_empty(tmp_path):
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.95])
    write_trial(tmp_path, "shampoo", "stdlib_lm", 0, 1, [9.0, 9.0])
    times = scoring.times_table(scoring.time_to_target(scoring.score_studies(_trials(tmp_path))))
    assert times.loc["mnist_vit"].tolist() == [1.0, pytest.approx(math.nan, nan_ok=True)]
    assert times.loc["stdlib_lm", "shampoo"] == INF


metrics = st.one_of(st.just(math.nan), st.floats(0, 1), st.just(0.9))
trial_values = st.lists(metrics, min_size=1, max_size=6)


@settings(max_examples=8)
@given(studies=st.lists(st.lists(trial_values, min_size=1, max_size=6), min_size=1, max_size=9))
def test_against_a_literal_reading_of_the_rules(studies):
    target = FACTS["mnist_vit"].validation_target
    rows, official, least = [], [], []
    for k, trials in enumerate(studies):
        first = {}
        for i, values in enumerate(trials, start=1):
            for e, value in enumerate(values):
                seconds = 2.0 * (e + 1) / i
                rows.append(("x", "mnist_vit", "jax", k, i, 20 * (e + 1), seconds, value))
                if value >= target and i not in first:
                    first[i] = (e, seconds)
        listed = [i for i in (5, 3, 4, 1, 2, 6) if i in first]
        picked = min(listed, key=lambda i: first[i][0]) if listed else -1
        official.append(first[picked][1] if listed else INF)
        least.append(min((seconds for _, seconds in first.values()), default=INF))
    columns = ["submission", "workload", "framework", "study", "trial", "global_step", "score"]
    frame = pd.DataFrame(rows, columns=[*columns, "validation_metric"])
    frame = frame.assign(hyperparameters="", finished=True, cut=True)
    trials_table = scoring.score_trials(frame)
    assert (trials_table["cut"] != trials_table["reached"]).all()
    for rule, seconds in (("official", official), ("fastest", least)):
        table = scoring.score_studies(trials_table, rule)
        assert table["seconds"].tolist() == seconds
        assert (table["cut"] != table["reached"]).all()
        (row,) = scoring.time_to_target(table).itertuples()
        ordered = sorted(seconds)
        middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
        assert row.median_seconds == pytest.approx(sum(middle) / len(middle))
    assert len(scoring.compare_rules(trials_table)) == sum(np.array(official) != np.array(least))


def _compare(root):
    return scoring.score_workloads(scoring.score_trials(read_logs(root).frame), "adamw")


def test_a_steps_cost_is_the_median_over_whole_trials(tmp_path):
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
    assert table.loc["shampoo", "steps_ratio"] == 1
    assert table.loc["adamw", ["steps_ratio", "steady_cost_ratio"]].eq(1).all()


def test_runs_are_counted_with_those_missing_or_unfinished(tmp_path):
    for study, trial in ((0, 1), (0, 2), (1, 1)):
        write_trial(tmp_path, "adamw", "mnist_vit", study, trial, [0.5], reason="steps")
    write_trial(tmp_path, "adamw", "mnist_vit", 2, 2, [0.5])
    (row,) = _compare(tmp_path).itertuples()
    assert (row.points, row.studies, row.runs, row.unfinished) == (2, 3, 4, 1)


def test_ratios_where_the_target_is_missed(tmp_path):
    hit, miss = [0.5, 0.95], [0.5] * 4
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, hit)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, miss, seconds_per_step=0.1)
    write_trial(tmp_path, "adamw", "stdlib_lm", 0, 1, [9.0])
    write_trial(tmp_path, "shampoo", "stdlib_lm", 0, 1, [5.0])
    write_trial(tmp_path, "shampoo", "flights_dlrm", 0, 1, [0.3])
    table = _compare(tmp_path)
    shampoo = table[table["submission"] == "shampoo"].set_index("workload")
    assert shampoo.loc["mnist_vit", "steps_ratio"] == INF
    assert shampoo.loc["mnist_vit", "steady_cost_ratio"] == pytest.approx(2)
    assert math.isnan(shampoo.loc["stdlib_lm", "steps_ratio"])
    assert shampoo.loc["stdlib_lm", "steady_cost_ratio"] == pytest.approx(1)
    assert shampoo.loc["flights_dlrm", ["steps_ratio", "steady_cost_ratio"]].isna().all()


def test_the_best_point_has_fewest_steps_then_seconds_then_the_lowest_number():
    columns = ["submission", "workload", "trial", "study", "reached", "steps", "seconds"]
    rows = [
        ("adamw", "a", 1, 0, True, 60.0, 9.0),
        ("adamw", "a", 2, 0, True, 40.0, 9.0),
        ("adamw", "a", 3, 0, True, 40.0, 8.0),
        ("adamw", "a", 4, 0, True, 40.0, 8.0),
        ("adamw", "b", 1, 0, False, INF, INF),
        *(
            ("adamw", "b", trial, study, study == 0, *(INF, INF))
            for trial in (2, 3)
            for study in range(3)
        ),
        ("shampoo", "b", 1, 0, False, INF, INF),
        ("shampoo", "b", 2, 0, True, 800.0, 99.0),
    ]
    trials = pd.DataFrame(rows, columns=columns).assign(hyperparameters="", cut=False)
    table = scoring.score_points(trials)
    best = table[table["best"]]
    picked = {(row.entry, row.workload): row.trial for row in best.itertuples()}
    assert picked == {("adamw", "a"): 3, ("adamw", "b"): 2, ("shampoo", "b"): 2}


def test_the_best_of_points_that_all_miss_is_the_nearest(tmp_path):
    # Of accuracies the second point's median is best, though the third has the best study.
    accuracies = [(0.5, 0.6, 0.7), (0.7, 0.8, 0.8), (0.1, 0.6, 0.89)]
    for trial, values in enumerate(accuracies, start=1):
        for study, value in enumerate(values):
            write_trial(tmp_path, "adamw", "mnist_vit", study, trial, [0.1, value, 0.3])
    for trial, loss in enumerate((0.47, 0.46, 0.45), start=1):
        write_trial(tmp_path, "adamw", "flights_dlrm", 0, trial, [0.6, loss, math.nan, -math.inf])
    frame = read_logs(tmp_path).frame
    trials = scoring.score_trials(frame)
    assert not trials["reached"].any()
    for evaluations, expected in ((None, [1, 1]), (frame, [3, 2])):
        points = scoring.score_points(trials, evaluations)
        assert points["workload"].unique().tolist() == ["flights_dlrm", "mnist_vit"]
        assert points["trial"][points["best"]].tolist() == expected
