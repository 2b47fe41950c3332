"""AdamW's arguments and checkpoints, as someone has them who comes from torch.optim.AdamW."""

import copy

import pytest
import torch

from submission.shampoo import Shampoo
from tests.submission.shampoo.operators import Operators
from tests.submission.shampoo.streams import (
    OPTIONS,
    VARIANTS,
    after_steps,
    assert_equal,
    parameters,
    run,
    set_grads,
    through_a_file,
)

ADAMW = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}


@pytest.mark.parametrize("variant", VARIANTS)
def test_maximize_is_descent_on_negated_gradients(variant):
    plain, ascending = parameters(), parameters()
    options = {**OPTIONS, **VARIANTS[variant]}
    first, second = Shampoo(plain, **options), Shampoo(ascending, **options, maximize=True)
    for seed in range(5):
        set_grads(seed, plain, ascending)
        for weight in ascending:
            weight.grad = -weight.grad
        first.step()
        second.step()
    assert_equal(plain, ascending)


@pytest.mark.parametrize("fused", [None, True, False])
def test_fused_chooses_the_kernel_of_vectors_and_who_unscales(fused):
    weights, others = parameters(dtype=torch.float32), parameters(dtype=torch.float32)
    optimizer, adamw = Shampoo(weights, **OPTIONS, fused=fused), Shampoo(others, **OPTIONS)
    with Operators() as operators:
        run(optimizer, weights, 3)
    run(adamw, others, 3)
    assert ("_fused_adamw_" in operators.counts) == (fused is not False)
    assert optimizer._step_supports_amp_scaling == (fused is True)
    torch.testing.assert_close(weights, others)


def test_fastai_schedules_the_first_beta_as_of_adamw():
    # Its `OptimWrapper` names momentum and betas[0] alike, and writes to the later of the two.
    names = list(Shampoo(parameters([(6, 5)])).param_groups[0])
    assert names.index("momentum") < names.index("betas")


@pytest.mark.parametrize("argument", ["differentiable", "amsgrad"])
def test_arguments_without_a_meaning_are_refused_with_the_reason(argument):
    weights = parameters([(6, 5)])
    for foreach in (None, False, True):
        Shampoo(weights, **{argument: False}, foreach=foreach)
    with pytest.raises(ValueError, match=f"{argument} must be False or None, got True: "):
        Shampoo(weights, **{argument: True})
    optimizer = Shampoo(weights)
    with pytest.raises(ValueError, match=f"{argument} must be"):
        optimizer.add_param_group({"params": parameters([(4,)]), argument: True})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(ValueError, match="maximize must be a boolean, got 1"):
        Shampoo(weights, maximize=1)


@pytest.mark.parametrize("lr", [-1.0, torch.nan, torch.inf])
def test_a_tensor_lr_is_read(lr):
    weights = parameters([(6, 5)])
    with pytest.raises(ValueError, match="lr must be a finite number >= 0"):
        Shampoo(weights, lr=torch.tensor(lr))
    optimizer = Shampoo(weights, lr=torch.tensor(0.1))
    optimizer.param_groups[0]["lr"] = torch.tensor(lr)
    set_grads(0, weights)
    with pytest.raises(ValueError, match="lr must be a finite number >= 0"):
        optimizer.step()


@pytest.mark.parametrize("as_tensor", [False, True])
def test_independent_decay_is_never_stronger_than_weight_decay(as_tensor):
    """A rate set by hand, 1e-5 to 1e-2, decayed by 100 at each step before."""
    weights = parameters([(6, 5)])
    optimizer = Shampoo(weights, lr=0.0, weight_decay=0.1, decay_mode="independent")
    for lr, expected in ((0.0, 0.0), (1e-5, 0.1), (1e-2, 0.1), (5e-3, 0.05)):
        optimizer.param_groups[0]["lr"] = torch.tensor(lr, dtype=torch.float64) if as_tensor else lr
        before = weights[0].detach().clone()
        weights[0].grad = torch.zeros_like(weights[0])
        optimizer.step()
        torch.testing.assert_close(weights[0].detach(), before * (1 - expected))
    other = Shampoo(parameters([(6, 5)]))
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["peak_lr"] == pytest.approx(1e-2)


@pytest.mark.parametrize("arguments", [{}, {"foreach": True}, {"fused": True}])
def test_vectors_go_on_from_adamw_as_adamw(arguments):
    weights = parameters([(7,), ()], torch.float32)
    adamw = torch.optim.AdamW(weights, **ADAMW, **arguments)
    run(adamw, weights, 3)
    copies = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    optimizer = Shampoo(copies, lr=1.0)
    optimizer.load_state_dict(through_a_file(adamw.state_dict()))
    run(adamw, weights, 4, first_seed=3)
    run(optimizer, copies, 4, first_seed=3)
    torch.testing.assert_close(weights, copies, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_matrices_keep_the_moments_of_adamw_and_the_groups_options(method):
    weights = parameters([(12, 9), (4, 6)])
    adamw = torch.optim.AdamW(weights, **ADAMW)
    run(adamw, weights, 3)
    groups = [{"params": weights[:1], "split": (4, 8)}, {"params": weights[1:]}]
    saved = torch.optim.AdamW([{"params": [weight]} for weight in weights], **ADAMW)
    saved.load_state_dict(_regrouped(adamw.state_dict()))
    optimizer = Shampoo(groups, method=method, refresh_interval=7, maximize=True)
    optimizer.load_state_dict(through_a_file(saved.state_dict()))
    group = optimizer.param_groups[0]
    assert (group["split"], group["refresh_interval"], group["lr"]) == ((4, 8), 7, 0.01)
    assert (group["betas"], group["maximize"]) == ((0.9, 0.99), False)
    for weight in weights:
        entry = optimizer.state[weight]
        assert float(entry["step"]) == 3
        torch.testing.assert_close(entry["exp_avg"], adamw.state[weight]["exp_avg"])
        second = {"shampoo": "exp_avg_sq", "soap": "basis_sq"}.get(method)
        if second:
            torch.testing.assert_close(entry[second], adamw.state[weight]["exp_avg_sq"])
    before = [weight.detach().clone() for weight in weights]
    run(optimizer, weights, 1, first_seed=3)
    for weight, old in zip(weights, before, strict=True):
        assert 0 < (weight - old).square().mean().sqrt() < 3 * 0.01


def _regrouped(state_dict):
    (group,) = state_dict["param_groups"]
    groups = [{**group, "params": [index]} for index in group["params"]]
    return {**state_dict, "param_groups": groups}


def test_a_one_cycle_schedule_goes_on_from_adamws():
    weights = parameters([(7,)])
    adamw, optimizer = torch.optim.AdamW(weights), Shampoo(weights)
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(each, max_lr=0.1, total_steps=10)
        for each in (adamw, optimizer)
    ]
    run(adamw, weights, 1)
    schedules[0].step()
    optimizer.load_state_dict(through_a_file(adamw.state_dict()))
    schedules[1].load_state_dict(schedules[0].state_dict())
    run(optimizer, weights, 1)
    for schedule in schedules:
        schedule.step()
    for name in ("lr", "betas"):
        assert optimizer.param_groups[0][name] == adamw.param_groups[0][name]


def test_the_decay_of_adam_is_l2():
    weights = parameters([(7,)])
    adam = torch.optim.Adam(weights, lr=0.01, weight_decay=0.1)
    run(adam, weights, 1)
    saved = adam.state_dict()
    saved["param_groups"][0]["decoupled_weight_decay"] = False  # as torch has it from 2.7 on
    optimizer = Shampoo(weights)
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["decay_mode"] == "l2"
    del saved["param_groups"][0]["decoupled_weight_decay"]  # of AdamW, before
    optimizer = Shampoo(weights)
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["decay_mode"] == "decoupled"


@pytest.mark.parametrize(
    ("rival", "message"),
    [
        (lambda weights: torch.optim.AdamW(weights, amsgrad=True), "amsgrad of state_dict"),
        (lambda weights: torch.optim.SGD(weights, lr=1, momentum=0.9), "not that of Shampoo or"),
        (torch.optim.Adadelta, "not that of Shampoo or AdamW"),
        (torch.optim.Rprop, "not that of Shampoo or AdamW"),
        (
            lambda weights: torch.optim.AdamW([{"params": weights}, {"params": parameters([()])}]),
            "different number of parameter groups",
        ),
    ],
)
def test_state_that_cannot_go_on_is_refused(rival, message):
    weights = parameters([(6, 5)])
    other = rival(weights)
    run(other, weights, 1)
    optimizer = Shampoo(weights, lr=0.5)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(other.state_dict())
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_moments_without_their_step_count_are_refused():
    optimizer, _ = after_steps(1, [(6, 5)])
    saved = copy.deepcopy(optimizer.state_dict())
    del saved["state"][0]["step"]
    with pytest.raises(ValueError, match=r"has exp_avg, .* but no step, so it is not that of"):
        optimizer.load_state_dict(saved)


@pytest.mark.parametrize("number", [int, float])
def test_a_step_count_may_be_a_number(number):
    (optimizer, weights), (other, others) = after_steps(2), after_steps(2)
    saved = copy.deepcopy(optimizer.state_dict())
    for entry in saved["state"].values():
        entry["step"] = number(-1)
    with pytest.raises(ValueError, match="'step' of the parameter of shape"):
        optimizer.load_state_dict(saved)
    for entry in saved["state"].values():
        entry["step"] = number(2)
    optimizer.load_state_dict(saved)
    optimizer.state[weights[2]]["step"] = number(2)
    run(optimizer, weights, 3, first_seed=2)
    run(other, others, 3, first_seed=2)
    assert_equal(weights, others)


@pytest.mark.parametrize("variant", ["shampoo", "ema", "schedule_free"])
def test_a_load_in_inference_mode_leaves_nothing_that_steps_cannot_change(variant):
    (optimizer, weights), (other, others) = (after_steps(2, **VARIANTS[variant]) for _ in range(2))
    optimizer.state[weights[0]]["slow"] = torch.ones(7)
    with torch.inference_mode():
        optimizer.load_state_dict(through_a_file(optimizer.state_dict()))
    run(optimizer, weights, 3, first_seed=2)
    run(other, others, 3, first_seed=2)
    assert_equal(weights, others)
    optimizer.state[weights[0]]["slow"].add_(1)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -1.0])
@pytest.mark.parametrize("variant", ["soap", "kl_shampoo", "rmsprop, nesterov", "schedule_free"])
def test_values_that_no_step_leaves_behind_are_refused_by_name_and_nothing_changes(variant, broken):
    optimizer, _ = after_steps(3, [(7,), (12, 9)], **VARIANTS[variant])
    good = copy.deepcopy(optimizer.state_dict())
    may_be_negative = ("exp_avg", "momentum_buffer", "z", "remainder")
    refused = 0
    for index, entry in good["state"].items():
        for name in entry:
            is_matrix = name.partition(".")[0].endswith(
                ("left", "right", "root", "basis", "values")
            )
            if broken == -1.0 and (name in may_be_negative or is_matrix):
                continue
            bad = copy.deepcopy(good)
            bad["state"][index][name].reshape(-1)[-1:] = broken
            with pytest.raises(ValueError, match=f"state_dict: '{name}' of the parameter of shape"):
                optimizer.load_state_dict(bad)
            refused += 1
    assert refused >= (4 if broken == -1.0 else 8)
    assert_equal(_values(optimizer.state_dict()), _values(good))
    optimizer.load_state_dict(good)


def _values(state_dict):
    return [value for entry in state_dict["state"].values() for value in entry.values()]


@pytest.mark.parametrize("broken", ["many", None, -1, 1.5, torch.inf])
@pytest.mark.parametrize("name", ["refresh_step", "skipped_steps", "peak_lr", "damping", "betas"])
def test_broken_numbers_of_groups_are_refused_by_name(name, broken):
    if (name, broken) == ("peak_lr", 1.5):
        pytest.skip("a valid one")
    optimizer, weights = after_steps(2, [(6, 5)])
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0][name] = broken
    with pytest.raises(ValueError, match=name):
        optimizer.load_state_dict(saved)
    run(optimizer, weights, 1)
