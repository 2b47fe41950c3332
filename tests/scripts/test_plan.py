"""Which trials run, and in which order."""

from pathlib import Path

import pytest

from common.cli import UserError
from scripts import plan

POINTS = {"x": [{"lr": 1.0}, {"lr": 2.0}], "y": [{"lr": 3.0}, {"lr": 4.0}]}
HEADER = "entry,workload,trial,studies,reached,median_steps,median_seconds\n"


def test_entries_alternate_within_studies_workloads_and_trials() -> None:
    choice = {("x", "b"): [1, 2], ("y", "b"): [2, 1], ("x", "a"): [2], ("y", "a"): [1]}
    planned = plan.trials_of(range(2), POINTS, choice, seed=7)
    order = [(trial.study, trial.workload, trial.trial, trial.entry) for trial in planned]
    once = [
        ("b", 1, "x"),
        ("b", 1, "y"),
        ("b", 2, "x"),
        ("b", 2, "y"),
        ("a", 1, "y"),
        ("a", 2, "x"),
    ]
    assert order == [(study, *rest) for study in range(2) for rest in once]
    assert planned[-1].hyperparameters == {"lr": 2.0}
    assert planned[-1].seed == 7


def test_a_number_beyond_the_points_is_refused() -> None:
    with pytest.raises(UserError, match="trial 3: entry 'x' has points 1 to 2"):
        plan.trials_of([0], POINTS, {("x", "a"): [3]}, seed=0)


def test_best_has_fewest_steps_then_seconds_then_number(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text(
        HEADER
        + "x,a,1,3,3,50,9.0\nx,a,2,3,2,40,9.0\nx,a,3,3,3,40,8.0\nx,a,4,3,3,40,8.0\n"
        + "y,a,1,3,0,inf,inf\ny,a,3,3,1,inf,inf\ny,a,2,3,1,inf,inf\n"
    )
    best = plan.best_trials(path, ["x", "y"], ["a"])
    assert best == {("x", "a"): [3], ("y", "a"): [2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("entry,workload\n", "lacks column"),
        (HEADER + "x,a,one,3,3,50,9.0\n", "line 2"),
        (HEADER + "x,a,1,3\n", "line 2"),
        (HEADER + "x,b,1,3,3,50,9.0\n", "no row for entry 'x' on workload 'a'"),
    ],
)
def test_damaged_tables_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        plan.best_trials(path, ["x"], ["a"])
    assert message in str(error.value)
    assert str(path) in str(error.value)
