"""What a tuning point may hold, and what each entry reads of it."""

import importlib
import types

import pytest
import torch
from torch import nn

from common.cli import UserError
from scripts.local import entries
from workloads import registry, search_space
from workloads.hyperparameters import OPTIONAL, POSSIBLE, REQUIRED, check

TARGET_RANGES = entries.STANDIN_POINTS.with_name("target_search_spaces.json")
POINT = {
    "learning_rate": 1e-3,
    "one_minus_beta1": 0.1,
    "one_minus_beta2": 0.01,
    "weight_decay": 0.1,
    "warmup_factor": 0.05,
}
SHAMPOO = POINT | {"nesterov": True, "refresh_interval": 20}
RANGE = {"min": 1e-4, "max": 1e-2, "scaling": "log"}


def ranges(point, **changes):
    return {name: {"feasible_points": [value]} for name, value in point.items()} | changes


def model_of(workload):
    return registry.official(workload).model


def test_points_and_ranges_of_known_values_pass():
    check([POINT, POINT | {"step_hint_factor": 0.6, "grad_clip": 1.0}], "adamw", "here")
    check(ranges(POINT, learning_rate=RANGE), "nadamw", "here")
    check([SHAMPOO | {"refresh_interval": 1}], "shampoo", "here")
    resnet, conformer = model_of("imagenet_resnet"), model_of("librispeech_conformer")
    check([POINT | {"label_smoothing": 0.1, "dropout_rate": 0.0}], "adamw", "here", resnet)
    check([POINT | {"label_smoothing": 0.0, "dropout_rate": 0.1}], "adamw", "here", conformer)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("learning_rate", 0.0, "(0, 10]"),
        ("learning_rate", 11, "(0, 10]"),
        ("learning_rate", True, "a number"),
        ("one_minus_beta1", 0, "(0, 1]"),
        ("one_minus_beta2", 1.1, "(0, 1]"),
        ("weight_decay", -0.1, "[0, 10]"),
        ("warmup_factor", 1, "[0, 1)"),
        ("label_smoothing", 1.0, "[0, 1)"),
        ("dropout_rate", -1e-9, "[0, 1)"),
        ("step_hint_factor", 0, "(0, 3]"),
        ("grad_clip", 0, "(0, inf)"),
        ("nesterov", 1, "true or false"),
        ("refresh_interval", 0, "an integer in [1, inf)"),
        ("refresh_interval", 1.5, "an integer in [1, inf)"),
        ("beta1", 0.9, "unknown to shampoo; known: learning_rate"),
        ("refresh_intervall", 20, "did you mean refresh_interval?"),
        ("grad_clipp", 1.0, "did you mean grad_clip?"),
    ],
)
def test_an_impossible_value_is_named(name, value, allowed):
    for space, place in (
        ([SHAMPOO, SHAMPOO | {name: value}], "a/file.json: point 2"),
        (ranges(SHAMPOO, **{name: {"feasible_points": [value]}}), "a/file.json"),
    ):
        with pytest.raises(UserError) as error:
            check(space, "shampoo", "a/file.json")
        assert str(error.value).startswith(f"{place}: {name}: ")
        assert allowed in str(error.value)


@pytest.mark.parametrize(
    ("changes", "workload", "facts"),
    [
        ({"dropout_rate": RANGE | {"min": -0.1}}, None, "dropout_rate: -0.1 is impossible"),
        ({"dropout_rate": RANGE | {"max": 1.0}}, None, "dropout_rate: 1.0 is impossible"),
        ({"nesterov": RANGE}, None, "nesterov: a range has values between"),
        ({"refresh_interval": RANGE}, None, "refresh_interval: a range has values between"),
        ({"dropout_rate": RANGE}, "imagenet_resnet", "dropout_rate: .* ignored by ResNet-50"),
        ({"label_smoothing": RANGE}, "wmt", ""),
        ({"label_smoothing": RANGE}, "fastmri", "label_smoothing: .* ignored by U-Net"),
    ],
)
def test_ranges_are_refused_by_name(changes, workload, facts):
    space, model = ranges(SHAMPOO, **changes), model_of(workload) if workload else None
    if not facts:
        check(space, "shampoo", "here", model)
        return
    with pytest.raises(UserError, match=f"here: {facts}"):
        check(space, "shampoo", "here", model)


@pytest.mark.parametrize("name", POINT)
def test_a_missing_hyperparameter_is_named(name):
    rest = {key: value for key, value in POINT.items() if key != name}
    for space, place in (([POINT, rest], "here: point 2"), (ranges(rest), "here")):
        with pytest.raises(UserError, match=f"{place}: {name}: missing; adamw needs it"):
            check(space, "adamw", "here")
    with pytest.raises(UserError, match="unknown algorithm 'sgd'; known: shampoo, nadamw, adamw"):
        check([POINT], "sgd", "here")


class Recorder:
    """Hyperparameters that remember what was asked of them."""

    def __init__(self, values):
        self.values, self.asked = values, set[str]()

    def __getattr__(self, name):
        self.asked.add(name)
        if name not in self.values:
            raise AttributeError(name)
        return self.values[name]


@pytest.mark.parametrize("algorithm", REQUIRED)
def test_an_entry_reads_what_is_known_and_its_points_pass(algorithm):
    if algorithm == "nesterov":  # which sets targets and has no points of its own
        ranges_of = search_space.ranges_by_entry(TARGET_RANGES, [algorithm])[algorithm]
        check(ranges_of, algorithm, TARGET_RANGES)
        points = search_space.draw(ranges_of, 1)
    else:
        file = entries.folder(algorithm) / "tuning_search_space.json"
        points = search_space.points(file)
        for path in (file, entries.standin_points_file(algorithm)):
            check(search_space.load(path), algorithm, path)
    entry = importlib.import_module(f"submission.entries.{algorithm}.submission")
    recorder, model = Recorder(points[0]), nn.Linear(4, 3)
    workload = types.SimpleNamespace(
        step_hint=100,
        max_allowed_runtime_sec=60,
        metrics_logger=None,
        model_fn=lambda params, *_, **__: (params(torch.ones(2, 4)), None),
        loss_fn=lambda **given: {
            "summed": given["logits_batch"].square().sum(),
            "n_valid_examples": torch.tensor(2.0),
        },
    )
    state = entry.init_optimizer_state(workload, model, None, recorder, None)
    batch = {"targets": torch.zeros(2, 3)}
    entry.update_params(
        workload, model, None, None, recorder, batch, None, state, [], 0, None, train_state={}
    )
    assert recorder.asked == {*REQUIRED[algorithm], *OPTIONAL[algorithm]} <= set(POSSIBLE)
