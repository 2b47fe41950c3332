"""Which trials run, and in which order."""

import json
from pathlib import Path

import pytest

from common.cli import UserError
from scripts.local import entries, plan
from workloads import registry, search_space

POINTS = {"x": [{"lr": 1.0}, {"lr": 2.0}], "y": [{"lr": 3.0}, {"lr": 4.0}]}
HEADER = "entry,workload,trial,best,hyperparameters\n"


def test_entries_alternate_within_studies_workloads_and_trials():
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
    assert order == [(study, *trial) for study in range(2) for trial in once]
    assert planned[-1].hyperparameters == {"lr": 2.0}
    assert planned[-1].seed == 7


def test_a_number_beyond_the_points_is_refused():
    with pytest.raises(UserError, match="trial 3: entry 'x' has points 1 to 2"):
        plan.trials_of([0], POINTS, {("x", "a"): [3]}, seed=0)


def test_best_is_what_the_table_marks(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(HEADER + "x,a,1,False,\nx,a,2,True,\ny,a,1,True,\ny,b,2,True,\n")
    best = plan.best_trials(path, POINTS, ["a"])
    assert best == {("x", "a"): [2], ("y", "a"): [1]}


def csv_cell(point):
    text = json.dumps(point, sort_keys=True, separators=(",", ":"))
    return '"' + text.replace('"', '""') + '"'


def test_a_best_point_that_has_changed_since_is_refused(tmp_path):
    points = {"x": [{"lr": 1.0}, {"lr": 0.1 + 0.2, "nesterov": True}]}
    path = tmp_path / "points.csv"
    cell = csv_cell({"nesterov": True, "lr": 0.1 + 0.2})
    path.write_text(f"{HEADER}x,a,1,False,\nx,a,2,True,{cell}\n")
    assert plan.best_trials(path, points, ["a"]) == {("x", "a"): [2]}
    changes = ({"lr": 0.3}, {"lr": 0.1 + 0.2}, {**points["x"][1], "more": 1})
    for changed in changes:
        with pytest.raises(UserError, match=r"points\.csv: trial 2 of entry 'x' was written with"):
            plan.best_trials(path, {"x": [{"lr": 1.0}, changed]}, ["a"])
    with pytest.raises(UserError, match=r"lr=0\.30000000000000004, not lr=0\.3;"):
        plan.best_trials(path, {"x": [{"lr": 1.0}, changes[0]]}, ["a"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("entry,workload\n", "lacks column"),
        ("entry,workload,trial,best\nx,a,1,True\n", "lacks column 'hyperparameters'"),
        (HEADER + "x,a,one,True,\n", "line 2"),
        (HEADER + "x,a,1,3.5,\n", "line 2"),
        (HEADER + "x,a,1\n", "line 2"),
        (HEADER + "x,a,1,True,{lr\n", "line 2"),
        (HEADER + "x,a,1,True,[1]\n", "damaged"),
        (HEADER + "x,b,1,True,\nx,a,1,False,\n", "no best row for entry 'x' on workload 'a'"),
    ],
)
def test_damaged_tables_are_named(tmp_path, content, message):
    path = tmp_path / "points.csv"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        plan.best_trials(path, {"x": POINTS["x"]}, ["a"])
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_the_committed_study_is_of_the_points_as_they_are():
    report = Path(__file__).parents[2] / "results" / "league" / "report" / "points.csv"
    names = ("shampoo", "adamw")
    points = {name: search_space.points(entries.standin_points_file(name)) for name in names}
    standins = registry.names("standin")
    best = plan.best_trials(report, points, standins)
    assert set(best) == {(entry, workload) for workload in standins for entry in names}
