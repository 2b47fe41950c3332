import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import scoring
from analysis.logs import read_logs
from tests.analysis.made_up import FACTS, write_trial

INF = math.inf


def _trials(root: Path) -> pd.DataFrame:
    return scoring.score_trials(read_logs(root).frame)


def test_first_evaluation_that_meets_the_target_counts(tmp_path: Path) -> None:
    # The target is met inclusively, a later loss of it does not matter.
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.9, 0.8, 0.95])
    write_trial(tmp_path, "adamw", "flights_dlrm", 0, 1, [0.41, 0.5, 0.4, 0.39])
    table = _trials(tmp_path).set_index("workload")
    assert table["evaluation"].to_dict() == {"mnist_vit": 1, "flights_dlrm": 2}
    assert table["steps"].to_dict() == {"mnist_vit": 40, "flights_dlrm": 60}
    assert table["seconds"].to_dict() == {"mnist_vit": 2.0, "flights_dlrm": 3.0}
    assert table["cpu_seconds"].to_dict() == {"mnist_vit": 1.8, "flights_dlrm": 2.7}
    assert table["last_step"].eq(80).all() and table["last_seconds"].eq(4.0).all()


@pytest.mark.parametrize("values", [[math.nan], [0.5], [math.nan, 0.5, math.nan]])
def test_nan_and_one_row_trials_do_not_reach(tmp_path: Path, values: list[float]) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, values)
    (row,) = _trials(tmp_path).itertuples()
    assert not row.reached and row.evaluation == -1
    assert row.steps == row.seconds == row.cpu_seconds == INF


def test_target_may_be_met_at_the_first_evaluation_and_after_a_nan(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.95])
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [math.nan, 0.95])
    assert _trials(tmp_path)["evaluation"].tolist() == [0, 1]


def test_cpu_seconds_are_unknown_where_not_logged(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.95], cpu=False)
    write_trial(tmp_path, "adamw", "mnist_vit", 1, 1, [0.5], cpu=False)
    trials = _trials(tmp_path)
    assert trials["cpu_seconds"].isna().all()
    assert scoring.score_workloads(trials, "adamw")["median_cpu_seconds"].isna().all()


def test_cpu_seconds_of_misses_are_infinite_and_hide_nothing(tmp_path: Path) -> None:
    # Study 0: one miss, one hit without CPU seconds. Study 1: time was up before an evaluation.
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5])
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [0.95], cpu=False)
    write_trial(tmp_path, "adamw", "mnist_vit", 1, 1, [0.5], reason="time")
    (tmp_path / "adamw/study_1/mnist_vit_pytorch/trial_1/eval_measurements.csv").unlink()
    studies = scoring.score_studies(_trials(tmp_path))
    assert studies["reached"].tolist() == [True, False]
    assert math.isnan(studies["cpu_seconds"][0]) and studies["cpu_seconds"][1] == INF


def test_steps_and_seconds_are_each_the_least_over_a_studys_trials(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5, 0.95], seconds_per_step=0.3)
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [0.5, 0.5, 0.95], seconds_per_step=0.1)
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 3, [0.5, 0.95], seconds_per_step=0.2)
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 4, [0.5, 0.95], seconds_per_step=0.2)
    write_trial(tmp_path, "adamw", "mnist_vit", 1, 2, [0.5])
    write_trial(tmp_path, "adamw", "mnist_vit", 1, 1, [0.5] * 3)
    studies = scoring.score_studies(_trials(tmp_path))
    assert studies["steps"].tolist() == [40, INF]
    assert studies["seconds"].tolist() == pytest.approx([6, INF])
    assert studies["cpu_seconds"].tolist() == pytest.approx([5.4, INF])
    # Fewest steps, then least seconds, then the lowest number.
    assert studies["best_trial"].tolist() == [3, 1]
    assert studies["last_step"].tolist() == [40, 20]
    (row,) = scoring.score_workloads(_trials(tmp_path), "adamw").itertuples()
    assert (row.studies, row.reached, row.best_trials) == (2, 1, "3 -")
    assert (row.points, row.runs) == (4, 6)


def test_the_clock_cannot_turn_a_comparison_in_steps(tmp_path: Path) -> None:
    # AdamW's point with fewest steps happens to be slow, as when the machine was busy.
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5] * 4 + [0.95], seconds_per_step=0.2)
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 2, [0.5] * 9 + [0.95], seconds_per_step=0.05)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5] * 7 + [0.95])
    table = scoring.score_workloads(_trials(tmp_path), "adamw").set_index("submission")
    assert table["median_steps"].to_dict() == {"adamw": 100, "shampoo": 160}
    assert table.loc["shampoo", "steps_ratio"] == pytest.approx(1.6)


def test_best_trial_of_a_lone_study_is_the_best_point(tmp_path: Path) -> None:
    for trial, (hit, cost) in enumerate([(3, 0.1), (2, 0.4), (2, 0.3), (2, 0.3)], start=1):
        values = [0.5] * (hit - 1) + [0.95]
        write_trial(tmp_path, "adamw", "mnist_vit", 0, trial, values, seconds_per_step=cost)
    trials = _trials(tmp_path)
    points = scoring.score_points(trials)
    assert points.loc[points["best"], "trial"].tolist() == [3]
    assert scoring.score_workloads(trials, "adamw")["best_trials"].tolist() == ["3"]


def test_a_steps_cost_is_the_median_over_whole_trials(tmp_path: Path) -> None:
    # The costly trial is the only one that reaches the target.
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.95], seconds_per_step=0.4)
    for trial, cost in ((2, 0.1), (3, 0.2)):
        write_trial(tmp_path, "adamw", "mnist_vit", 0, trial, [0.5], seconds_per_step=cost)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.95], seconds_per_step=0.3)
    table = scoring.score_workloads(_trials(tmp_path), "adamw").set_index("submission")
    assert table["seconds_per_step"].to_dict() == pytest.approx({"adamw": 0.2, "shampoo": 0.3})
    assert table.loc["shampoo", "step_cost_ratio"] == pytest.approx(1.5)
    assert table.loc["shampoo", "seconds_ratio"] == pytest.approx(0.75)


def test_runs_are_counted_with_those_missing_or_unfinished(tmp_path: Path) -> None:
    for study, trial in ((0, 1), (0, 2), (1, 1)):
        write_trial(tmp_path, "adamw", "mnist_vit", study, trial, [0.5], reason="steps")
    write_trial(tmp_path, "adamw", "mnist_vit", 2, 2, [0.5])
    (row,) = scoring.score_workloads(_trials(tmp_path), "adamw").itertuples()
    assert (row.points, row.studies, row.runs, row.unfinished) == (2, 3, 4, 1)


@pytest.mark.parametrize(
    ("hits", "median"),
    [([2], 40), ([2, 4], 60), ([2, 3, 9], 60), ([2, 3, 0], 60), ([2, 0], INF), ([0, 0, 2], INF)],
)
def test_median_over_studies_counts_a_missed_study_as_infinite(
    tmp_path: Path, hits: list[int], median: float
) -> None:
    for study, hit in enumerate(hits):
        values = [0.5] * (hit - 1) + [0.95] if hit else [0.5] * 10
        write_trial(tmp_path, "adamw", "mnist_vit", study, 1, values)
    trials = _trials(tmp_path)
    (row,) = scoring.score_workloads(trials, "adamw").itertuples()
    assert row.median_steps == median
    every = [20.0 * hit if hit else INF for hit in hits]
    assert (row.min_steps, row.max_steps) == (min(every), max(every))
    (point,) = scoring.score_points(trials).itertuples()
    assert (point.median_steps, point.studies) == (median, len(hits))
    assert point.reached == row.reached == sum(hit > 0 for hit in hits)


def test_ratios_of_lone_trials_multiply(tmp_path: Path) -> None:
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, [0.5] * 9 + [0.95], seconds_per_step=0.1)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, [0.5] * 4 + [0.95], seconds_per_step=0.15)
    table = scoring.score_workloads(_trials(tmp_path), "adamw").set_index("submission")
    ratios = table[["steps_ratio", "step_cost_ratio", "seconds_ratio"]]
    assert ratios.loc["adamw"].tolist() == [1, 1, 1]
    assert ratios.loc["shampoo"].tolist() == pytest.approx([0.5, 1.5, 0.75], rel=1e-12)


def test_ratios_where_the_target_is_missed(tmp_path: Path) -> None:
    hit, miss = [0.5, 0.95], [0.5] * 4
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 1, hit)
    write_trial(tmp_path, "shampoo", "mnist_vit", 0, 1, miss, seconds_per_step=0.1)
    write_trial(tmp_path, "adamw", "stdlib_lm", 0, 1, [9.0])
    write_trial(tmp_path, "shampoo", "stdlib_lm", 0, 1, [5.0])
    write_trial(tmp_path, "shampoo", "flights_dlrm", 0, 1, [0.3])
    table = scoring.score_workloads(_trials(tmp_path), "adamw")
    shampoo = table[table["submission"] == "shampoo"].set_index("workload")
    assert shampoo.loc["mnist_vit", "seconds_ratio"] == INF
    assert shampoo.loc["mnist_vit", "step_cost_ratio"] == pytest.approx(2)
    assert math.isnan(shampoo.loc["stdlib_lm", "seconds_ratio"])
    assert shampoo.loc["stdlib_lm", "step_cost_ratio"] == pytest.approx(1)
    assert shampoo.loc["flights_dlrm", ["seconds_ratio", "step_cost_ratio"]].isna().all()


def test_the_best_point_has_fewest_steps_then_seconds_then_the_lowest_number() -> None:
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
    trials = pd.DataFrame(rows, columns=columns).assign(hyperparameters="")
    points = scoring.score_points(trials)
    best = points[points["best"]]
    picked = {(row.entry, row.workload): row.trial for row in best.itertuples()}
    assert picked == {("adamw", "a"): 3, ("adamw", "b"): 2, ("shampoo", "b"): 2}


def test_points_name_their_hyperparameters(tmp_path: Path) -> None:
    for study, rate in enumerate((0.1, None, 0.1, 0.2)):
        point = None if rate is None else {"rate": rate}
        for trial in (1, 2) if rate != 0.2 else (2,):
            values = [0.5]
            write_trial(tmp_path, "adamw", "mnist_vit", study, trial, values, hyperparameters=point)
    write_trial(tmp_path, "adamw", "mnist_vit", 0, 3, [0.5], hyperparameters=None)
    points = scoring.score_points(_trials(tmp_path))
    assert points["hyperparameters"].tolist() == [
        '{"rate":0.1}',
        '[{"rate":0.1},{"rate":0.2}]',
        "",
    ]


metrics = st.one_of(st.just(math.nan), st.floats(0, 1))
trial_values = st.lists(metrics, min_size=1, max_size=6)


@settings(max_examples=20, deadline=None)
@given(studies=st.lists(st.lists(trial_values, min_size=1, max_size=3), min_size=1, max_size=3))
def test_against_a_literal_reading_of_the_rule(studies: list[list[list[float]]]) -> None:
    target = FACTS["mnist_vit"].validation_target
    assert target is not None
    rows, best, fewest = [], [], []
    for k, trials in enumerate(studies):
        times, steps = [], []
        for i, values in enumerate(trials, start=1):
            hits = [e for e, value in enumerate(values) if value >= target]
            times.append(2.0 * (hits[0] + 1) / i if hits else INF)
            steps.append(20.0 * (hits[0] + 1) if hits else INF)
            rows.extend(
                ("x", "mnist_vit", "jax", k, i, 20 * (e + 1), 2.0 * (e + 1) / i, 0.0, v, v, v)
                for e, v in enumerate(values)
            )
        best.append(min(times))
        fewest.append(min(steps))
    columns = ["submission", "workload", "framework", "study", "trial", "global_step", "score"]
    columns += ["cpu_seconds", "train_metric", "validation_metric", "test_metric"]
    frame = pd.DataFrame(rows, columns=columns).assign(hyperparameters="", finished=True)
    trials_table = scoring.score_trials(frame)
    table = scoring.score_studies(trials_table)
    assert table["seconds"].tolist() == best and table["steps"].tolist() == fewest
    middle = sorted(best)[(len(best) - 1) // 2 : len(best) // 2 + 1]
    (row,) = scoring.score_workloads(trials_table, "x").itertuples()
    assert row.median_seconds == pytest.approx(sum(middle) / len(middle))
