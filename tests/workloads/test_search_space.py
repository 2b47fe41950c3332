"""Reading, checking and drawing from search spaces."""

import json
import math

import numpy as np
import pytest

from common.cli import UserError
from workloads import search_space

RANGE = {"min": 0.001, "max": 1.0, "scaling": "log"}


def test_points_are_taken_in_order(write_json):
    path = write_json("points.json", [{"learning_rate": 0.1}, {"learning_rate": 0.2}])
    listed = search_space.load(path)
    assert search_space.point(listed, 2, path) == {"learning_rate": 0.2}
    assert search_space.as_namedtuple(search_space.point(listed, 1, path)).learning_rate == 0.1


@pytest.mark.parametrize("trial", [0, 3])
def test_a_trial_beyond_the_list_is_refused(write_json, trial):
    path = write_json("points.json", [{"learning_rate": 0.1}, {"learning_rate": 0.2}])
    with pytest.raises(UserError, match=f"--trial={trial}"):
        search_space.point(search_space.load(path), trial, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "empty"),
        ({}, "list of points or an object of ranges"),
        (3, "list of points or an object of ranges"),
        ([{}], "point 1"),
        ([{"a": 1}, 2], "point 2"),
        ([{"a": "0.1"}], "a is '0.1', not a finite number"),
        ([{"a": None}], "a is None"),
        ([{"a": math.nan}], "a is nan, not a finite number"),
        ([{"a": 10**400}], "a is 1000"),
        ([{"a": [1] * 5000}], "a is [1, 1"),
        ([{"a b": 1}], "'a b' cannot be the name"),
        ([{"class": 1}], "'class' cannot be the name"),
        ({"a": 1}, "a: must be"),
        ({"a": RANGE | {"step": 1}}, "a: unknown key 'step'"),
        ({"a": {"min": 1, "scaling": "log"}}, "a: lacks 'max'"),
        ({"a": RANGE | {"min": 1.0}}, "a: min 1.0 must be below max 1.0"),
        ({"a": RANGE | {"min": 0}}, "a: min 0 must be above 0 with log scaling"),
        ({"a": RANGE | {"max": "x"}}, "a: max is 'x'"),
        ({"a": RANGE | {"scaling": "cubic"}}, "allowed: linear, uniform, log"),
        ({"a": RANGE | {"max": -(10**400)}}, "a: max is -1000"),
        ({"a": {"feasible_points": [10**400]}}, "a: feasible point 1000"),
        ({"a": {"feasible_points": []}}, "a: feasible_points must be a list"),
        ({"a": {"feasible_points": [1, "b"]}}, "a: feasible point 'b'"),
        ({"a": {"feasible_points": [1], "min": 0}}, "a: unknown key 'min'"),
    ],
)
def test_malformed_spaces_are_named(write_json, content, message):
    path = write_json("space.json", content)
    with pytest.raises(UserError) as error:
        search_space.load(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 120


def test_draws_cover_the_ranges_evenly():
    ranges = {
        "rate": RANGE,
        "linear": {"min": -1, "max": 3, "scaling": "linear"},
        "choice": {"feasible_points": [0.0, 0.1]},
    }
    drawn = search_space.draw(ranges, 64)
    for name, low, high in (("rate", 0.001, 1.0), ("linear", -1.0, 3.0)):
        values = [point[name] for point in drawn]
        assert low <= min(values) and max(values) <= high
        scaled = np.log(values) if name == "rate" else np.array(values)
        ends = (math.log(low), math.log(high)) if name == "rate" else (low, high)
        counts, _ = np.histogram(scaled, bins=8, range=ends)
        assert counts.min() >= 5
    zeros = sum(point["choice"] == 0.0 for point in drawn)
    assert 24 <= zeros <= 40


def test_more_draws_extend_fewer_and_key_order_does_not_matter():
    ranges = {"a": RANGE, "b": {"feasible_points": [1, 2, 3]}, "c": RANGE}
    turned = dict(reversed(ranges.items()))
    assert search_space.draw(ranges, 20)[:7] == search_space.draw(turned, 7)


def test_ranges_for_all_entries_or_by_entry(write_json):
    shared = search_space.ranges_by_entry(write_json("all.json", {"a": RANGE}), ["x", "y"])
    assert shared == {"x": {"a": RANGE}, "y": {"a": RANGE}}
    path = write_json("each.json", {"x": {"a": RANGE}, "y": {"b": RANGE}})
    assert search_space.ranges_by_entry(path, ["y"]) == {"y": {"b": RANGE}}
    with pytest.raises(UserError, match="no ranges for 'z'"):
        search_space.ranges_by_entry(path, ["z"])
    for content, problem in (
        ({"x": {"a": RANGE}, "y": {"b": {"min": 1}}}, "y: b: lacks"),
        ([{"a": 1}], "must hold"),
        ({"a": 1}, "a: must be"),
    ):
        with pytest.raises(UserError, match=f"bad.json: {problem}"):
            search_space.ranges_by_entry(write_json("bad.json", content), ["y"])


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"missing\.json"):
        search_space.load(tmp_path / "missing.json")
    (tmp_path / "broken.json").write_text(json.dumps([1])[:-1])
    with pytest.raises(UserError, match=r"broken\.json is not valid JSON"):
        search_space.load(tmp_path / "broken.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"deep\.json is nested too deeply"):
        search_space.load(tmp_path / "deep.json")
    (tmp_path / "long.json").write_text('[{"a": ' + "1" * 10_000 + "}]")
    with pytest.raises(UserError, match=r"long\.json"):
        search_space.load(tmp_path / "long.json")


def test_submissions_of_others_may_have_strings_booleans_and_null(write_json):
    points = [{"grafting_type": "ADAM", "use_momentum": False, "limit": None, "rate": 0.1}]
    path = write_json("points.json", points)
    assert search_space.points(path, numbers_only=False) == points
    with pytest.raises(UserError, match=r"point 1: grafting_type is 'ADAM', not a finite number$"):
        search_space.points(path)
    ranges = {"style": {"feasible_points": ["a", "b"]}}
    path = write_json("ranges.json", ranges)
    drawn = search_space.points(path, 8, numbers_only=False)
    assert {point["style"] for point in drawn} == {"a", "b"}
    path = write_json("odd.json", [{"betas": [0.9, 0.99]}])
    allowed = "not a finite number, a string, a boolean or null"
    with pytest.raises(UserError, match=allowed):
        search_space.points(path, numbers_only=False)


def test_uniform_is_linear(write_json):
    drawn = [
        search_space.points(
            write_json(f"{scaling}.json", {"a": {"min": 1, "max": 9, "scaling": scaling}}), 4
        )
        for scaling in ("linear", "uniform", "log")
    ]
    assert drawn[0] == drawn[1] != drawn[2]
