"""What gradients may do without harm: be missing, late, wild or not finite."""

import copy
import os

import pytest
import torch

from submission.shampoo import Shampoo, eigenbasis, roots
from tests.submission.shampoo.streams import (
    OPTIONS,
    VARIANTS,
    after_steps,
    assert_equal,
    parameters,
    run,
    set_grads,
)

# 10000 takes minutes per variant: WILD_STEPS=10000 python -m pytest -k wild tests/submission
WILD_STEPS = int(os.environ.get("WILD_STEPS", "150"))


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
@pytest.mark.parametrize("position", [0, 2])
@pytest.mark.parametrize("steps", [4, 5], ids=["plain step", "refresh step"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_non_finite_gradient_changes_nothing(bad, position, steps, variant):
    optimizer, weights = after_steps(steps, dtype=torch.float32, **VARIANTS[variant])
    before = copy.deepcopy(optimizer.state_dict()["state"])
    values = [weight.detach().clone() for weight in weights]
    set_grads(99, weights)
    weights[position].grad.view(-1)[0] = bad
    optimizer.step()
    assert_equal(weights, values)
    after = optimizer.state_dict()["state"]
    for index, entry in before.items():
        for name, value in entry.items():
            assert torch.equal(value, after[index][name]), name
    assert optimizer.diagnostics()["skipped_steps"] == 1
    assert optimizer.diagnostics()["failed_roots"] == 0
    run(optimizer, weights, 2)
    assert any(not torch.equal(a, b) for a, b in zip(weights, values, strict=True))


def test_a_non_finite_gradient_in_any_group_skips_the_step_of_all():
    weights = parameters([(6, 5), (4,), (6, 5)])
    optimizer = Shampoo([{"params": [weight]} for weight in weights], **OPTIONS)
    run(optimizer, weights, 2)
    before = [weight.detach().clone() for weight in weights]
    for weight in weights:
        set_grads(2, weights)
        weight.grad.view(-1)[0] = torch.nan
        optimizer.step()
        assert_equal(weights, before)
    assert optimizer.diagnostics()["skipped_steps"] == 3


@pytest.mark.parametrize("variant", [*VARIANTS, "exponent 1/2", "exponent 1"])
def test_wild_gradients_never_make_a_weight_non_finite(variant):
    weights = parameters([(9, 7), (5,), (12, 3)], torch.float32)
    powers = {"exponent 1/2": {"exponent": 0.5}, "exponent 1": {"exponent": 1.0}}
    options = {**powers, **VARIANTS}[variant]
    optimizer = Shampoo(weights, lr=0.01, block_size=6, refresh_interval=4, **options)
    generator = torch.Generator().manual_seed(0)
    for step in range(WILD_STEPS):
        set_grads(step, weights)
        for weight in weights:
            kind = int(torch.randint(0, 6, (), generator=generator))
            weight.grad *= [1.0, 0.0, 1e-30, 1e-12, 1e15, 1e30][kind]
            if step % 17 == 0:
                weight.grad.view(-1)[0] = torch.nan
        optimizer.step()
        assert all(weight.isfinite().all() for weight in weights), step


def test_a_first_gradient_that_is_not_finite_is_followed_by_adamws_steps_until_the_next_refresh():
    weights, expected = parameters([(6, 5)]), parameters([(6, 5)])
    optimizer = Shampoo(weights, lr=0.01, betas=(0.9, 0.99), refresh_interval=4, refresh="together")
    adamw = torch.optim.AdamW(expected, lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)
    for seed in range(2):
        set_grads(seed, weights)
        weights[0].grad[0, 0] = torch.nan
        optimizer.step()
    run(optimizer, weights, 1)
    run(adamw, expected, 1)
    assert torch.allclose(weights[0], expected[0], atol=1e-12)
    run(optimizer, weights, 1)
    run(adamw, expected, 1)
    assert not torch.allclose(weights[0], expected[0], atol=1e-4)


def test_a_root_that_cannot_be_trusted_keeps_its_predecessor_and_is_counted(monkeypatch):
    healthy, failing = parameters([(6, 5)]), parameters([(6, 5)])
    options = {**OPTIONS, "block_size": 8, "refresh_interval": 2}
    first = Shampoo(healthy, **{**options, "refresh_interval": 10**6})
    second = Shampoo(failing, **options)
    run(first, healthy, 1)
    run(second, failing, 1)
    real = roots.inverse_root

    def distrusted(*arguments):
        result = real(*arguments)
        return result._replace(trusted=torch.zeros_like(result.trusted))

    monkeypatch.setattr(roots, "inverse_root", distrusted)
    for optimizer, weights in ((first, healthy), (second, failing)):
        optimizer.param_groups[0]["refresh_step"] = 2  # the next step is 3: due for neither
        run(optimizer, weights, 2)
    assert torch.equal(healthy[0], failing[0])
    assert second.diagnostics()["failed_roots"] == 2


def test_a_late_first_gradient_gives_the_same_step_as_a_prompt_one():
    late, prompt = parameters([(6, 5), (6, 5), (4,)]), parameters([(6, 5), (6, 5), (4,)])
    late_optimizer, prompt_optimizer = Shampoo(late, lr=0.01), Shampoo(prompt, lr=0.01)
    for seed in range(5):
        set_grads(seed, late)
        late[1].grad = None
        late_optimizer.step()
    start = late[1].detach().clone()
    set_grads(7, late, prompt)
    late_optimizer.step()
    prompt_optimizer.step()
    moved = late[1] - start
    assert torch.allclose(moved, prompt[1] - parameters([(6, 5)] * 2)[1], rtol=1e-9, atol=1e-12)


def test_frozen_parameters_cost_nothing_and_may_be_thawed():
    weights, alone = parameters([(6, 5), (6, 5)]), parameters([(6, 5), (6, 5)])
    optimizer, expected_optimizer = Shampoo(weights, **OPTIONS), Shampoo(alone[:1], **OPTIONS)
    for seed in range(4):
        set_grads(seed, weights, alone)
        weights[1].grad = None
        optimizer.step()
        expected_optimizer.step()
    assert torch.equal(weights[0], alone[0])
    assert list(optimizer.state_dict()["state"]) == [0]
    run(optimizer, weights, 2)
    assert list(optimizer.state_dict()["state"]) == [0, 1]
    assert optimizer.state_dict()["state"][0]["step"] == 6


@pytest.mark.parametrize("method", ["soap", "kl_shampoo"])
def test_a_late_parameters_first_basis_is_exact_like_a_prompt_ones(method):
    options = {**OPTIONS, "method": method, "basis_solver": "qr", "refresh_interval": 1}
    late, prompt = parameters([(6, 5), (6, 5)]), parameters([(6, 5), (6, 5)])
    late_optimizer, prompt_optimizer = Shampoo(late, **options), Shampoo(prompt, **options)
    for seed in range(3):
        set_grads(seed, late)
        late[1].grad = None
        late_optimizer.step()
    for seed in range(10, 14):
        set_grads(seed, late, prompt)
        late_optimizer.step()
        prompt_optimizer.step()
        torch.testing.assert_close(late[1], prompt[1], rtol=0, atol=1e-9)


def test_a_refused_step_is_not_counted():
    weights = parameters([(6, 5)])
    table = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = Shampoo([{"params": weights}, {"params": table.parameters()}])
    set_grads(0, weights)
    table(torch.tensor([1])).sum().backward()
    before = weights[0].detach().clone()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert torch.equal(weights[0], before)
    assert [group["refresh_step"] for group in optimizer.param_groups] == [0, 0]


@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_an_exception_beside_training_costs_one_refresh_and_no_other(method, monkeypatch):
    weights = parameters([(6, 5)])
    options = {**OPTIONS, "method": method, "overlap": True, "refresh_interval": 1}
    optimizer = Shampoo(weights, **options)
    run(optimizer, weights, 3)
    optimizer.finish()
    before = optimizer.diagnostics()["factors"]
    module, name = (roots, "inverse_root") if method == "shampoo" else (eigenbasis, "eigenbasis")
    genuine = getattr(module, name)

    def failing(matrices, *rest):
        if matrices.shape[-1] == 5:
            raise torch.linalg.LinAlgError("no convergence")
        return genuine(matrices, *rest)

    monkeypatch.setattr(module, name, failing)
    run(optimizer, weights, 1)
    with pytest.warns(RuntimeWarning, match="LinAlgError: no convergence"):
        optimizer.finish()
    monkeypatch.setattr(module, name, genuine)
    after = optimizer.diagnostics()["factors"]
    left, right = "param 0 left", "param 0 right"
    block = OPTIONS["block_size"]
    assert block == 5  # so 6 rows are cut into two blocks of 3 and the right factors are [5, 5]
    assert after[left]["refreshes"] == before[left]["refreshes"] + 2
    assert after[left]["failed_roots"] == 0
    assert after[right]["refreshes"] == before[right]["refreshes"]
    assert after[right]["failed_roots"] == 2
    assert after[right]["residual"] == before[right]["residual"]
    run(optimizer, weights, 2)
    optimizer.finish()
    assert optimizer.diagnostics()["factors"][right]["refreshes"] > before[right]["refreshes"]
    assert weights[0].isfinite().all()
