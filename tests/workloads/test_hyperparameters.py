"""What a tuning point may hold, and what each entry reads of it."""

import importlib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from common.cli import UserError
from workloads import registry, search_space
from workloads.hyperparameters import OPTIONAL, POSSIBLE, REQUIRED, check

ENTRIES = Path(__file__).parents[2] / "submission" / "entries"
POINTS = Path(__file__).parents[2] / "workloads" / "standin" / "points"
POINT: dict[str, float] = {
    "learning_rate": 1e-3,
    "one_minus_beta1": 0.1,
    "one_minus_beta2": 0.01,
    "weight_decay": 0.1,
    "warmup_factor": 0.05,
}
RANGE = {"min": 1e-4, "max": 1e-2, "scaling": "log"}


def ranges(**changes: Any) -> dict[str, Any]:
    return {name: {"feasible_points": [value]} for name, value in POINT.items()} | changes


def test_points_and_ranges_of_known_values_pass() -> None:
    check([POINT, POINT | {"step_hint_factor": 0.6, "grad_clip": 1.0}], "adamw", "here")
    check(ranges(learning_rate=RANGE), "nadamw", "here")
    check([POINT | {"nesterov": True, "refresh_interval": 1}], "shampoo", "here")


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({"learning_rate": 0.0}, "(0, 10]"),
        ({"learning_rate": 11}, "(0, 10]"),
        ({"learning_rate": True}, "a number"),
        ({"one_minus_beta1": 0}, "(0, 1]"),
        ({"one_minus_beta2": 1.1}, "(0, 1]"),
        ({"weight_decay": -0.1}, "[0, 10]"),
        ({"warmup_factor": 1}, "[0, 1)"),
        ({"label_smoothing": 1.0}, "[0, 1)"),
        ({"dropout_rate": -1e-9}, "[0, 1)"),
        ({"step_hint_factor": 0}, "(0, 3]"),
        ({"grad_clip": 0}, "(0, inf)"),
        ({"nesterov": 1}, "true or false"),
        ({"refresh_interval": 0}, "an integer in [1, inf)"),
        ({"refresh_interval": 1.5}, "an integer in [1, inf)"),
        ({"beta1": 0.9}, "unknown to shampoo; known: learning_rate"),
    ],
)
def test_an_impossible_value_is_named(change: Mapping[str, float], allowed: str) -> None:
    good = POINT | {"nesterov": True, "refresh_interval": 20}
    ((name, value),) = change.items()
    lists = {key: {"feasible_points": [one]} for key, one in good.items()}
    for space, place in (
        ([good, good | change], "a/file.json: point 2"),
        (lists | {name: {"feasible_points": [value]}}, "a/file.json"),
    ):
        with pytest.raises(UserError) as error:
            check(space, "shampoo", "a/file.json")
        assert str(error.value).startswith(f"{place}: {name}: ")
        assert allowed in str(error.value)


def test_both_ends_of_a_range_must_be_possible() -> None:
    for end in ({"min": -0.1}, {"max": 1.0}):
        dropout = {"min": 0.0, "max": 0.5, "scaling": "linear"} | end
        with pytest.raises(UserError, match=r"dropout_rate: .* is impossible"):
            check(ranges(dropout_rate=dropout), "adamw", "here")


@pytest.mark.parametrize("name", ["nesterov", "refresh_interval"])
def test_what_has_no_values_between_is_no_range(name: str) -> None:
    space = ranges(nesterov={"feasible_points": [True]}, refresh_interval={"feasible_points": [1]})
    check(space, "shampoo", "here")
    space[name] = {"min": 1, "max": 50, "scaling": "linear"}
    with pytest.raises(UserError, match=f"here: {name}: a range has values between; give feasible"):
        check(space, "shampoo", "here")


@pytest.mark.parametrize("name", POINT)
def test_a_missing_hyperparameter_is_named(name: str) -> None:
    rest = {key: value for key, value in POINT.items() if key != name}
    with pytest.raises(UserError, match=f"here: point 2: {name}: missing; adamw needs it"):
        check([POINT, rest], "adamw", "here")
    with pytest.raises(UserError, match=f"here: {name}: missing"):
        check({key: {"feasible_points": [0.5]} for key in rest}, "adamw", "here")


def test_an_unknown_algorithm_is_named() -> None:
    with pytest.raises(UserError, match="unknown algorithm 'sgd'; known: shampoo, nadamw, adamw"):
        check([POINT], "sgd", "here")


def test_what_a_model_ignores_may_not_be_tuned() -> None:
    resnet, conformer = (
        registry.official(name).model for name in ("imagenet_resnet", "librispeech_conformer")
    )
    check([POINT | {"label_smoothing": 0.1, "dropout_rate": 0.0}], "adamw", "here", resnet)
    check([POINT | {"label_smoothing": 0.0, "dropout_rate": 0.1}], "adamw", "here", conformer)
    with pytest.raises(UserError, match=r"dropout_rate: 0.1 is ignored by ResNet-50; give 0 only"):
        check([POINT | {"dropout_rate": 0.1}], "adamw", "here", resnet)
    with pytest.raises(UserError, match=r"label_smoothing: 0.2 is ignored by Conformer"):
        smoothing = {"feasible_points": [0.0, 0.2]}
        check(ranges(label_smoothing=smoothing), "adamw", "here", conformer)


@pytest.mark.parametrize("algorithm", REQUIRED)
def test_the_entry_s_own_points_pass_official_and_on_stand_ins(algorithm: str) -> None:
    for file in (ENTRIES / algorithm / "tuning_search_space.json", POINTS / f"{algorithm}.json"):
        check(search_space.load(file), algorithm, file)


class Recorder:
    """Hyperparameters that remember what was asked of them."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self.values, self.asked = values, set[str]()

    def __getattr__(self, name: str) -> float:
        self.asked.add(name)
        if name not in self.values:
            raise AttributeError(name)
        return self.values[name]


@pytest.mark.parametrize("algorithm", REQUIRED)
def test_an_entry_reads_what_is_known_and_nothing_else(algorithm: str) -> None:
    entry = importlib.import_module(f"submission.entries.{algorithm}.submission")
    file = ENTRIES / algorithm / "tuning_search_space.json"
    own = search_space.load(file)
    assert isinstance(own, list)
    recorder = Recorder(own[0])
    model = nn.Linear(4, 3)
    workload = types.SimpleNamespace(
        step_hint=100,
        max_allowed_runtime_sec=60,
        metrics_logger=None,
        model_fn=lambda **given: (given["params"](torch.ones(2, 4)), None),
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
    assert set(REQUIRED[algorithm]) <= recorder.asked
    assert recorder.asked == {*REQUIRED[algorithm], *OPTIONAL[algorithm]}


def test_every_name_has_possible_values() -> None:
    assert set(POSSIBLE) == {
        name for of in (REQUIRED, OPTIONAL) for names in of.values() for name in names
    }
