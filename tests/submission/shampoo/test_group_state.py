"""State of parameter groups: when it begins anew, and what happens to weights that move."""

import gc
import weakref

import pytest
import torch

from submission.shampoo import Shampoo
from tests.submission.shampoo.streams import (
    OPTIONS,
    VARIANTS,
    after_steps,
    assert_equal,
    parameters,
    run,
)


def copies_of(weights):
    return [torch.nn.Parameter(weight.detach().clone()) for weight in weights]


@pytest.mark.parametrize("variant", VARIANTS)
def test_clearing_the_state_begins_anew(variant):
    options = {**OPTIONS, **VARIANTS[variant]}
    optimizer, weights = after_steps(5, **options)
    optimizer.state.clear()
    assert optimizer.state_dict()["state"] == {}
    others = copies_of(weights)
    run(optimizer, weights, 5)
    run(Shampoo(others, **options), others, 5)
    assert_equal(weights, others)


def test_a_group_whose_state_is_removed_begins_anew_alone():
    weights = parameters([(6, 5), (4,), (6, 5)])
    optimizer = Shampoo([{"params": weights[:2]}, {"params": weights[2:]}], **OPTIONS)
    run(optimizer, weights, 3)
    for weight in weights[:2]:
        del optimizer.state[weight]
    assert optimizer.state_dict()["state"].keys() == {2}
    run(optimizer, weights, 1, first_seed=3)
    state = optimizer.state_dict()["state"]
    assert [float(state[index]["step"]) for index in range(3)] == [1, 1, 4]


def test_groups_may_change_places_and_their_dicts_be_replaced():
    weights, others = parameters([(6, 5), (7, 5)]), parameters([(6, 5), (7, 5)])
    optimizer, other = (
        Shampoo([{"params": [a]}, {"params": [b], "lr": 0.02}], **OPTIONS)
        for a, b in (weights, others)
    )
    run(optimizer, weights, 3)
    run(other, others, 3)
    other.param_groups[:] = [dict(group) for group in reversed(other.param_groups)]
    run(optimizer, weights, 4, first_seed=3)
    run(other, others, 4, first_seed=3)
    assert_equal(weights, others)
    assert other.diagnostics()["refreshes"] == optimizer.diagnostics()["refreshes"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lr", -1.0),
        ("lr", torch.ones(2)),
        ("betas", (0.9, 1.0)),
        ("damping", 0.0),
        ("refresh_interval", 0),
        ("weight_decay", torch.tensor(0.1)),
        ("decay_mode", "L2"),
    ],
)
def test_options_are_validated_whenever_they_change(option, value):
    optimizer, weights = after_steps(2, [(6, 5)])
    good = optimizer.param_groups[0][option]
    for _ in range(2):
        optimizer.param_groups[0][option] = value
        with pytest.raises(ValueError, match=f"{option} must be"):
            run(optimizer, weights, 1)
        optimizer.param_groups[0][option] = good
        run(optimizer, weights, 1)


def test_betas_in_a_list_count_and_are_validated_from_when_it_is_written_to():
    rows = [parameters([(6, 5), (4,)]) for _ in range(2)]
    optimizers = [Shampoo(row, **{**OPTIONS, "betas": [0.9, 0.99]}) for row in rows]
    for optimizer, row in zip(optimizers, rows, strict=True):
        run(optimizer, row[:1], 1)  # so that counters differ, and rates are tensors
        run(optimizer, row, 2)
    optimizers[0].param_groups[0]["betas"][0] = 0.5
    optimizers[1].param_groups[0]["betas"] = (0.5, 0.99)
    for optimizer, row in zip(optimizers, rows, strict=True):
        run(optimizer, row, 2, first_seed=2)
    assert_equal(*rows)
    optimizers[0].param_groups[0]["betas"][0] = 2.0
    with pytest.raises(ValueError, match="betas must be"):
        run(optimizers[0], rows[0], 1)


@pytest.mark.parametrize(
    "change",
    [{"averaging": "ema"}, {"grafting": None}, {"method": "soap"}, {"split": (4, 4)}],
)
def test_options_that_are_refused_leave_no_trace(change):
    (optimizer, weights), (other, others) = (after_steps(3, [(6, 5)]) for _ in range(2))
    group = optimizer.param_groups[0]
    before = {name: group[name] for name in change}
    group.update(change)
    optimizer.eval()
    with pytest.raises(ValueError, match=f"{next(iter(change))} must"):
        optimizer.step()
    group.update(before)
    run(optimizer, weights, 3, first_seed=3)
    run(other, others, 3, first_seed=3)
    assert_equal(weights, others)


def test_a_weight_that_is_not_contiguous_stays_as_it_is_without_a_gradient():
    weights = parameters([(6, 5), (6, 5)])
    weights[0].data = weights[0].detach().clone().T.contiguous().T
    optimizer = Shampoo(weights, **OPTIONS)
    run(optimizer, weights, 2)
    with torch.no_grad():
        weights[0].add_(1.0)
    before = weights[0].detach().clone()
    weights[0].grad = None
    optimizer.step()
    assert torch.equal(weights[0], before)


def test_no_step_keeps_a_gradient_alive():
    optimizer, weights = after_steps(2, [(6, 5), (4,)])
    grads = [weakref.ref(weight.grad) for weight in weights]
    optimizer.zero_grad()
    gc.collect()
    assert [grad() for grad in grads] == [None, None]
