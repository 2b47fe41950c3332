"""Which trials run, and in which order."""

from pathlib import Path

import pytest

from common.cli import UserError
from scripts import plan

POINTS = {"x": [{"lr": 1.0}, {"lr": 2.0}], "y": [{"lr": 3.0}, {"lr": 4.0}]}
HEADER = "entry,workload,trial,best\n"


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


def test_best_is_what_the_table_marks(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text(HEADER + "x,a,1,False\nx,a,3,True\ny,a,2,True\ny,b,1,True\n")
    best = plan.best_trials(path, ["x", "y"], ["a"])
    assert best == {("x", "a"): [3], ("y", "a"): [2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("entry,workload\n", "lacks column"),
        (HEADER + "x,a,one,True\n", "line 2"),
        (HEADER + "x,a,1,3.5\n", "line 2"),
        (HEADER + "x,a,1\n", "line 2"),
        (HEADER + "x,b,1,True\nx,a,1,False\n", "no best row for entry 'x' on workload 'a'"),
    ],
)
def test_damaged_tables_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        plan.best_trials(path, ["x"], ["a"])
    assert message in str(error.value)
    assert str(path) in str(error.value)
