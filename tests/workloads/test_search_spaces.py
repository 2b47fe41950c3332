"""The official workloads' search spaces: complete, fair, and around what has been published."""

import json
from pathlib import Path

import pytest

from common.cli import UserError
from workloads import registry
from workloads.official import search_spaces
from workloads.official.search_spaces import ALGORITHMS

BASES = [name for name in registry.names("official") if not registry.facts(name).base]
TUNED = [name for name in BASES if name not in ("mnist", "cifar")]

# Points of the v0.5 and v0.6 leaderboards: the baseline's 1 to 5 and Distributed Shampoo's with
# Adam grafting; learning rate, 1 - beta1, 1 - beta2, weight decay, warm-up, smoothing, dropout.
BASELINE = {
    1: (0.001308, 0.02687, 0.001877, 0.16375, 0.1, 0.1, 0.0),
    2: (0.000845, 0.11042, 0.002150, 0.08135, 0.05, 0.2, 0.0),
    3: (0.001308, 0.02687, 0.001877, 0.16375, 0.1, 0.0, 0.0),
    4: (0.004958, 0.13626, 0.370815, 0.11474, 0.02, 0.0, 0.0),
    5: (0.001749, 0.06734, 0.004484, 0.08122, 0.02, 0.0, 0.1),
}
SHAMPOO = {
    1: (0.001749, 0.06734, 0.004484, 0.08122, 0.02, 0.0, 0.1),
    2: (0.001438, 0.02534, 0.025080, 0.000197, 0.05, 0.2, 0.0),
    4: (0.0012, 0.01661, 0.005888, 0.000403, 0.02, 0.1, 0.1),
    5: (0.001308, 0.02687, 0.001877, 0.16375, 0.1, 0.1, 0.0),
}
NAMES = (
    *("learning_rate", "one_minus_beta1", "one_minus_beta2", "weight_decay"),
    *("warmup_factor", "label_smoothing", "dropout_rate"),
)
# Which of them reached the target first in a v0.5 study, but for single studies.
WINNERS = {
    "criteo1tb": [BASELINE[3], BASELINE[5], SHAMPOO[1], SHAMPOO[4]],
    "fastmri": [BASELINE[2], BASELINE[3], BASELINE[4], SHAMPOO[2]],
    "imagenet_resnet": [BASELINE[1], SHAMPOO[5]],
    "imagenet_vit": [BASELINE[2], SHAMPOO[2]],
    "librispeech_conformer": [BASELINE[5], SHAMPOO[1], SHAMPOO[5]],
    "librispeech_deepspeech": [BASELINE[4], BASELINE[5], SHAMPOO[1]],
    "ogbg": [BASELINE[5], SHAMPOO[4]],
    "wmt": [BASELINE[3], BASELINE[5], SHAMPOO[1], SHAMPOO[4]],
}


def holds(spec, value):
    if "feasible_points" in spec:
        return value in spec["feasible_points"]
    return bool(spec["min"] <= value <= spec["max"])


def test_every_base_workload_that_is_tuned_has_all_spaces():
    assert search_spaces.workloads() == TUNED
    paths = sorted(path.relative_to(search_spaces.ROOT) for path in search_spaces.ROOT.glob("*/*"))
    expected = [Path(name, f"{algorithm}.json") for name in TUNED for algorithm in ALGORITHMS]
    assert [path for path in paths if path.parent.name != "__pycache__"] == sorted(expected)


@pytest.mark.parametrize("workload", TUNED)
def test_spaces_pass_and_drawn_points_lie_in_them(workload):
    for algorithm in ALGORITHMS:
        space = search_spaces.load(workload, algorithm)
        assert isinstance(space, dict)
        for point in search_spaces.draw(workload, algorithm, 30):
            assert point.keys() == space.keys()
            assert all(holds(space[name], value) for name, value in point.items())


@pytest.mark.parametrize("workload", TUNED)
def test_algorithms_draw_the_same_values_of_what_they_share(workload):
    drawn = {name: search_spaces.draw(workload, name, 12) for name in ALGORITHMS}
    for algorithm, points in drawn.items():
        shared = set(points[0]) & set(drawn["adamw"][0])
        assert len(shared) == 8
        assert [{name: point[name] for name in shared} for point in points] == [
            {name: point[name] for name in shared} for point in drawn["adamw"]
        ], algorithm


@pytest.mark.parametrize("workload", WINNERS)
def test_what_reached_the_target_lies_in_the_ranges(workload):
    space = search_spaces.load(workload, "shampoo")
    model = registry.official(workload).model
    for point in WINNERS[workload]:
        for name, value in zip(NAMES, point, strict=True):
            if (name == "label_smoothing" and not model.smooths_labels) or (
                name == "dropout_rate" and model.dropout_rate is None
            ):
                continue
            assert holds(space[name], value), (name, value)


def test_a_variant_has_the_space_of_its_base_and_draws_extend():
    assert search_spaces.path("ogbg_gelu", "shampoo") == search_spaces.path("ogbg", "shampoo")
    assert search_spaces.draw("wmt_glu_tanh", "adamw", 9)[:4] == search_spaces.draw(
        "wmt", "adamw", 4
    )


@pytest.mark.parametrize(
    ("workload", "algorithm", "facts"),
    [
        ("wmd", "shampoo", "unknown workload 'wmd'"),
        ("mnist_vit", "shampoo", "mnist_vit is no official workload"),
        ("mnist", "shampoo", "mnist has no search space; those have: criteo1tb"),
        ("wmt", "sgd", "unknown algorithm 'sgd'; known: shampoo, nadamw, adamw"),
    ],
)
def test_what_has_no_space_is_named(workload, algorithm, facts):
    with pytest.raises(UserError, match=facts):
        search_spaces.load(workload, algorithm)


def test_a_list_of_points_is_taken_in_order(tmp_path, monkeypatch):
    points = search_spaces.draw("ogbg", "nadamw", 3)
    file = tmp_path / "fastmri" / "nadamw.json"
    file.parent.mkdir()
    file.write_text(json.dumps(points))
    monkeypatch.setattr(search_spaces, "ROOT", tmp_path)
    with pytest.raises(UserError, match=r"nadamw.json: point .* is ignored by U-Net"):
        search_spaces.load("fastmri", "nadamw")
    for point in points:
        point.update(label_smoothing=0.0, dropout_rate=0.0)
    file.write_text(json.dumps(points))
    assert search_spaces.draw("fastmri", "nadamw", 2) == points[:2]
    with pytest.raises(UserError, match=r"nadamw.json has 3 points, not 4"):
        search_spaces.draw("fastmri", "nadamw", 4)
