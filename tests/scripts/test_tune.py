"""Search, the choice of points from it, and targets."""

import collections
import csv
import dataclasses
import json
import math
import platform
import shutil

import pandas as pd
import pytest

from common.cli import UserError
from scripts import tune
from scripts.local import plan, search_table
from scripts.local.environment import ROOT
from scripts.local.search_table import MISS
from tests.scripts.commands import finish, finish_fake, must_refuse, must_succeed
from workloads import registry, search_space

RANGES_FILE = ROOT / "workloads" / "standin" / "entry_search_spaces.json"
RANGES = {"learning_rate": {"min": 1e-4, "max": 0.4, "scaling": "log"}}

pytestmark = pytest.mark.usefixtures("fakes")


@pytest.fixture(autouse=True)
def two_workloads(monkeypatch, fakes):
    second = dataclasses.replace(registry.facts("fake"), name="fake2")
    monkeypatch.setitem(registry._ALL, "fake2", second)


def small_search(count=4):
    """Trials of both entries on both workloads, and the entries' points."""
    points = tune.drawn({"fake_sgd": RANGES, "fake_adam": RANGES}, count)
    return tune.search_trials(("fake", "fake2"), points, seed=0), points


def table_of(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def best_value(rate, study_index=0):
    return abs(math.log10(rate) + 2) + study_index / 100


def test_rows_say_best_value_and_first_step_at_the_target(tmp_path, machine):
    planned, points = small_search(8)
    assert tune.run(planned, points, tmp_path, machine) == 0
    rows, problems = search_table.rows_of(planned, tmp_path)
    assert problems == []
    assert len(rows) == 32
    met = 0
    for row in rows:
        best = best_value(row["learning_rate"])
        assert row["best_validation"] == pytest.approx(best)
        assert row["best_step"] == row["steps"] == 24
        # The fake trials' loss falls by 0.01 a step to its best value at step 24.
        steps = max(1, math.ceil(round(24 - (0.35 - best) * 100, 6)))
        assert row["steps_to_target"] == (steps if best <= 0.35 else "")
        met += best <= 0.35
    assert 0 < met < 32
    unset, _ = search_table.rows_of(planned, tmp_path, targets=False)
    assert {row["steps_to_target"] for row in unset} == {""}
    path = tmp_path / "search.csv"
    search_table.write_table(path, rows)
    search_table.check_points(path, "fake_sgd", points["fake_sgd"])
    other = search_space.draw(
        {"learning_rate": {"min": 1e-4, "max": 0.3, "scaling": "log"}}, len(points["fake_sgd"])
    )
    with pytest.raises(UserError, match="trial 1 of 'fake_sgd' has learning_rate="):
        search_table.check_points(path, "fake_sgd", other)


def test_a_search_is_extended_and_not_mixed(tmp_path, machine):
    for count in (2, 3):
        assert tune.run(*small_search(count), tmp_path, machine) == 0
    started = (tmp_path / "runs.txt").read_text().splitlines()
    assert len(started) == len(set(started)) == 12
    other = tune.drawn({"fake_sgd": {"learning_rate": {"feasible_points": [1]}}}, 2)
    with pytest.raises(UserError, match="other ranges"):
        tune.run([], other, tmp_path, machine)


def test_logs_that_are_damaged_or_lack_a_metric_are_named(tmp_path, machine):
    planned, points = small_search(1)
    tune.run(planned, points, tmp_path, machine)
    damaged = planned[0].directory(tmp_path) / "eval_measurements.csv"
    damaged.write_text(damaged.read_text().replace("test/loss", "test/ppl"))
    with pytest.raises(UserError, match=r"eval_measurements\.csv.*lacks column 'test/loss'"):
        tune.targets_from(planned[:1], tmp_path, registry.facts("fake"))
    whole = damaged.read_text().replace("test/ppl", "test/loss")
    for text, reason in (
        ("global_step,score,validation/loss\n1", "damaged"),
        (whole[: whole.rindex("\n24,") + 1], "ends at step 23, before the trial's last step 24"),
    ):
        damaged.write_text(text)
        rows, problems = search_table.rows_of(planned, tmp_path)
        assert len(rows) == 3
        assert len(problems) == 1 and str(damaged) in problems[0] and reason in problems[0]
    damaged.write_text(whole)
    (damaged.parent / "status.json").unlink()
    _, (problem,) = search_table.rows_of(planned, tmp_path)
    assert problem == f"{damaged.parent}: the trial has not finished"


def test_a_search_writes_its_table_apart_from_its_logs_and_does_not_run_twice(tmp_path, write_json):
    ranges = write_json("ranges.json", {"fake_sgd": RANGES})
    flags = [
        *("--mode=search", "--workloads=fake", "--entries=fake_sgd", "--trials=2"),
        *(f"--ranges={ranges}", f"--logs={tmp_path / 'logs'}", f"--output={tmp_path / 'new'}"),
    ]
    must_succeed(finish_fake("tune", *flags))
    assert len(table_of(tmp_path / "new" / "search.csv")) == 2
    assert not (tmp_path / "new" / "fake_sgd").exists()
    shutil.rmtree(tmp_path / "logs")
    again = finish_fake("tune", *flags)
    assert again.stdout.startswith("2 trials are in ") and again.returncode == 0
    assert not (tmp_path / "logs").exists()
    rows = table_of(tmp_path / "new" / "search.csv")
    assert finish_fake("tune", *flags, "--trials=3").returncode == 0
    assert table_of(tmp_path / "new" / "search.csv")[:2] == rows
    assert [path.name for path in (tmp_path / "logs").rglob("trial_*")] == ["trial_3"]


def test_what_the_table_holds_is_not_searched_again(tmp_path, machine):
    planned, points = small_search(2)
    path = tmp_path / "search.csv"
    assert search_table.recorded(path, planned) == ([], planned)
    assert tune.run(planned, points, tmp_path, machine) == 0
    rows, _ = search_table.rows_of(planned, tmp_path)
    # Of one entry on one workload the table lacks a trial.
    search_table.write_table(path, rows[1:])
    known, left = search_table.recorded(path, planned)
    assert left == planned[:1] and len(known) == len(planned) - 1
    more, _ = small_search(3)
    _, left = search_table.recorded(path, more)
    assert left == [t for t in more if t.trial == 3 or t == planned[0]]
    other = [dataclasses.replace(t, hyperparameters={"learning_rate": 9.0}) for t in planned]
    assert search_table.recorded(path, other) == ([], other)


def test_the_table_keeps_what_other_searches_wrote(tmp_path):
    path = tmp_path / "search.csv"
    empty = dict.fromkeys(search_table.COLUMNS, 1)
    a = empty | {"workload": "fake", "entry": "x", "a": 0.5}
    b = empty | {"workload": "fake", "entry": "y", "b": 0.1}
    search_table.write_table(path, [a, b])
    search_table.write_table(path, [b | {"b": 0.2}])
    rows = {row["entry"]: row for row in table_of(path)}
    assert (rows["x"]["a"], rows["x"]["b"]) == ("0.5", "")
    assert (rows["y"]["a"], rows["y"]["b"]) == ("", "0.2")


def test_the_choice_is_greedy_over_workloads():
    costs = pd.DataFrame({"a": [0.9, 0.2, MISS, 0.5], "b": [0.8, MISS, 0.1, 0.5]}, [1, 2, 3, 4])
    # Alone, 4 costs 0.5 in the mean; with 2, b still costs 0.5; with 3, a does: 0.30 < 0.35.
    assert search_table.choose(costs, 0 * costs, 3) == [4, 3, 2]


def test_equal_costs_are_told_apart_by_rank_then_number():
    ranks = pd.DataFrame({"a": [0.5, 0.0, 0.0]}, [1, 2, 3])
    assert search_table.choose(0 * ranks + MISS, ranks, 3) == [2, 3, 1]


def test_costs_and_ranks_of_a_table(tmp_path):
    path = tmp_path / "search.csv"
    base = dict.fromkeys(search_table.COLUMNS, 0) | {"workload": "fake", "entry": "x"}
    rows = [
        base | {"trial": 1, "steps_to_target": 12, "best_validation": 0.1},
        base | {"trial": 2, "steps_to_target": "", "best_validation": math.nan},
        base | {"trial": 3, "steps_to_target": "", "best_validation": 0.3},
        base | {"trial": 1, "entry": "y"},
    ]
    search_table.write_table(path, rows)
    costs, ranks = search_table.costs_and_ranks(path, "x")
    assert costs["fake"].to_dict() == {1: 0.5, 2: MISS, 3: MISS}
    assert ranks["fake"].to_dict() == pytest.approx({1: 0, 2: 2 / 3, 3: 1 / 3})
    with pytest.raises(UserError, match="no rows for entry 'z'"):
        search_table.costs_and_ranks(path, "z")
    search_table.write_table(path, [base | {"trial": 1, "workload": "fake2"}])
    with pytest.raises(UserError, match="lacks trial 2 of 'x' on 'fake2'"):
        search_table.costs_and_ranks(path, "x")


def test_the_best_of_a_list_is_the_cheapest_and_among_misses_the_nearest(tmp_path):
    searched = [{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.3}]
    costs = pd.DataFrame({"a": [0.5, 0.4, 0.1], "b": [MISS, MISS, MISS]}, index=[1, 2, 3])
    ranks = pd.DataFrame({"a": [0.0, 0.5, 0.3], "b": [0.6, 0.3, 0.0]}, index=[1, 2, 3])
    path = tmp_path / "best.csv"
    for entry in ("x", "y", "x"):
        chosen = [2, 1]
        search_table.write_best(path, entry, costs.loc[chosen], ranks.loc[chosen], searched)
    points = {entry: [searched[1], searched[0]] for entry in ("x", "y")}
    best = plan.best_trials(path, points, ["a", "b"])
    assert best == {(entry, workload): [1] for entry in points for workload in "ab"}
    assert len(table_of(path)) == 4
    ranks.loc[1, "b"] = 0.1
    search_table.write_best(path, "x", costs.loc[chosen], ranks.loc[chosen], searched)
    assert plan.best_trials(path, points, ["b"])["x", "b"] == [2]


def test_the_committed_search_gives_the_committed_points(tmp_path):
    table = ROOT / "results" / "league" / "search.csv"
    committed = RANGES_FILE.parent / "points"
    searched = collections.Counter(
        row["entry"] for row in table_of(table) if row["workload"] == "mnist_vit"
    )
    assert {"shampoo", "adamw"} <= searched.keys()
    assert len(set(searched.values())) == 1
    for entry, count in searched.items():
        costs, ranks = search_table.costs_and_ranks(table, entry)
        chosen = search_table.choose(costs, ranks, 5)
        ranges = search_space.ranges_by_entry(RANGES_FILE, [entry])[entry]
        points = search_space.draw(ranges, count)
        search_table.check_points(table, entry, points)
        listed = json.loads((committed / f"{entry}.json").read_text())
        assert [points[number - 1] for number in chosen] == listed
        best = tmp_path / "best.csv"
        search_table.write_best(best, entry, costs.loc[chosen], ranks.loc[chosen], points)
    assert table_of(best) == table_of(committed / "best.csv")


def test_a_search_on_some_workloads_leaves_the_points_of_all(tmp_path):
    table, points = tmp_path / "search.csv", tmp_path / "points"
    rows = table_of(ROOT / "results" / "league" / "search.csv")
    search_table.write_table(table, [r for r in rows if r["workload"] == "mnist_vit"])
    shutil.copytree(RANGES_FILE.parent / "points", points)
    flags = ["--mode=points", "--entries=adamw", f"--ranges={RANGES_FILE}", f"--search={table}"]
    line = must_refuse(finish("-m", "scripts.tune", *flags, f"--output={points}"))
    assert "has no trial of 'adamw' on mnist_resnet, brain_unet, " in line
    for path in points.iterdir():
        assert path.read_bytes() == (RANGES_FILE.parent / "points" / path.name).read_bytes()
    must_succeed(finish("-m", "scripts.tune", *flags, f"--output={tmp_path / 'others'}"))


def test_targets_are_medians_over_seeds_of_the_best_point(tmp_path, write_json, machine):
    ranges = write_json("ranges.json", {"fake_sgd": RANGES, "fake_adam": RANGES})
    points = tune.drawn(tune.target_ranges(ranges), 4)
    planned = tune.target_search(("fake", "fake2"), points, seed=0)
    assert {trial.max_steps for trial in planned} == {18}
    targets_file = write_json("targets.json", {"other": {"validation_target": 1.0}})
    output = tmp_path / "tables"
    output.mkdir()
    logs = tmp_path / "logs"
    code = tune.set_targets(planned, points, 3, logs, output, targets_file, machine)
    assert code == 0

    rates = [point["learning_rate"] for point in points["fake_sgd"]]
    best = min(rates, key=best_value)
    targets = json.loads(targets_file.read_text())
    assert set(targets) == {"other", "fake", "fake2"}
    target = targets["fake"]
    # Studies 1, 2 and 3 are 0.01, 0.02 and 0.03 worse; the test loss is twice as large.
    assert target["validation_target"] == pytest.approx(best_value(best, 2))
    assert target["test_target"] == pytest.approx(2 * best_value(best, 2))
    assert target["algorithm"] == "fake_sgd"
    assert target["hyperparameters"] == {"learning_rate": best, "step_hint_factor": 0.75}
    assert target["steps"] == 18
    assert target["python_version"] == platform.python_version()
    assert len(set(target["rng_seeds"])) == len(target["best_validation_per_seed"]) == 3
    rows = table_of(output / "search.csv")
    assert len(rows) == 16
    assert {row["steps_to_target"] for row in rows} == {""}
    assert len(table_of(output / "repeats.csv")) == 6

    before = len((logs / "runs.txt").read_text().splitlines())
    assert before == 16 + 6
    assert tune.set_targets(planned, points, 3, logs, output, targets_file, machine) == 0
    assert len((logs / "runs.txt").read_text().splitlines()) == before


def test_no_target_is_set_after_a_failure(tmp_path, write_json, machine):
    failing = {"learning_rate": {"feasible_points": [0.5]}}
    ranges = write_json("ranges.json", {"fake_sgd": failing})
    points = tune.drawn(tune.target_ranges(ranges), 1)
    planned = tune.target_search(("fake",), points, seed=0)
    targets_file = tmp_path / "targets.json"
    output = tmp_path / "tables"
    output.mkdir()
    assert tune.set_targets(planned, points, 1, tmp_path, output, targets_file, machine) == 1
    assert not targets_file.exists()


def test_the_shipped_ranges_are_sound_and_name_no_challenger():
    algorithms = list(json.loads(tune.RANGES.read_text()))
    assert algorithms == ["adamw", "nadamw", "nesterov"]
    ranges = search_space.ranges_by_entry(tune.RANGES, algorithms)
    assert all(len(search_space.draw(of, 3)) == 3 for of in ranges.values())
