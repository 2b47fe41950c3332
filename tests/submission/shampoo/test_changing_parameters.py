"""State belongs to a parameter: whatever its place, group, dtype and memory."""

import gc

import pytest
import torch

from scripts.benchmark import stepped
from submission.shampoo import Shampoo
from tests.submission.shampoo.streams import (
    OPTIONS,
    VARIANTS,
    after_steps,
    assert_equal,
    parameters,
    run,
)

SHAPES = [(6, 5), (7,), (6, 5), (4, 9), (7,)]
ALL = pytest.mark.parametrize("variant", VARIANTS)
# Those whose refreshes do not depend on how many factors there are.
SIMULTANEOUS = pytest.mark.parametrize(
    "variant", [name for name in VARIANTS if name not in ("staggered", "overlap")]
)


def pair(variant, shapes=SHAPES, dtype=torch.float64):
    """Two equal optimizers after five steps, with their parameters."""
    options = VARIANTS[variant]
    return *after_steps(5, shapes, dtype, **options), *after_steps(5, shapes, dtype, **options)


def assert_go_on_alike(optimizer, weights, other, others, steps=6):
    """Steps both on equal gradients; those that are None in the first list stay without."""
    for seed in range(5, 5 + steps):
        generator = torch.Generator().manual_seed(seed)
        for weight, twin in zip(weights, others, strict=True):
            grad = torch.randn(twin.shape, generator=generator, dtype=torch.float64)
            twin.grad = grad.to(twin.dtype)
            if weight is not None:
                weight.grad = grad.to(weight.dtype)
        optimizer.step()
        other.step()
    for weight, twin in zip(weights, others, strict=True):
        if weight is not None:
            torch.testing.assert_close(weight, twin, rtol=1e-10, atol=1e-12)


@SIMULTANEOUS
def test_the_order_of_a_group_does_not_matter(variant):
    optimizer, weights, other, others = pair(variant)
    optimizer.param_groups[0]["params"].reverse()
    assert_go_on_alike(optimizer, weights, other, others)


@SIMULTANEOUS
@pytest.mark.parametrize("place", [0, 2, 4])
def test_parameters_keep_their_state_when_another_is_removed_or_replaced(variant, place):
    optimizer, weights, other, others = pair(variant)
    members = optimizer.param_groups[0]["params"]
    if place == 2:
        members[place] = torch.nn.Parameter(weights[place].detach().clone())
    else:
        del members[place]
    kept = [weight if i != place else None for i, weight in enumerate(weights)]
    assert_go_on_alike(optimizer, kept, other, others)


def test_a_new_parameter_begins_anew_among_others():
    optimizer, weights, _, _ = pair("shampoo")
    new = torch.nn.Parameter(torch.ones(6, 5, dtype=torch.float64))
    optimizer.param_groups[0]["params"].insert(1, new)
    run(optimizer, optimizer.param_groups[0]["params"], 2)
    assert [float(optimizer.state[weight]["step"]) for weight in weights] == [7] * 5
    assert float(optimizer.state[new]["step"]) == 2
    assert len(optimizer.state_dict()["state"]) == 6


@SIMULTANEOUS
def test_a_parameter_takes_its_state_to_another_group(variant):
    optimizer, weights, other, others = pair(variant)
    moved = optimizer.param_groups[0]["params"].pop(2)
    options = {**OPTIONS, **VARIANTS[variant]}
    optimizer.add_param_group({"params": [moved], **options})
    optimizer.param_groups[1]["refresh_step"] = optimizer.param_groups[0]["refresh_step"]
    assert_go_on_alike(optimizer, weights, other, others)


@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_in_a_group_of_other_blocks_moments_stay_and_factors_begin_anew(method):
    optimizer, weights, _, _ = pair(method)
    moment = optimizer.state[weights[3]]["exp_avg_sq" if method == "shampoo" else "exp_avg"]
    moved = optimizer.param_groups[0]["params"].pop(3)
    optimizer.add_param_group({"params": [moved], "block_size": 3})
    run(optimizer, [*optimizer.param_groups[0]["params"], moved], 1)
    entry = optimizer.state[moved]
    assert {len(entry[name]) for name in entry if name.startswith("left.")} == {6}
    if method == "shampoo":
        expected = 0.99 * moment + 0.01 * moved.grad.square()
        torch.testing.assert_close(entry["exp_avg_sq"], expected)
    elif method == "soap":
        assert float(entry["step"]) == 6


def test_a_parameter_leaves_a_group_beside_one_of_another_method():
    optimizer, weights = after_steps(2, SHAPES)
    optimizer.add_param_group({"params": parameters(SHAPES), "method": "soap"})
    del optimizer.param_groups[0]["params"][0]
    run(optimizer, weights, 1)
    assert [float(optimizer.state[weight]["step"]) for weight in weights] == [2, 3, 3, 3, 3]


def test_a_group_of_another_method_is_refused_by_name():
    optimizer, weights, _, _ = pair("shampoo")
    moved = optimizer.param_groups[0]["params"].pop(3)
    optimizer.add_param_group({"params": [moved], "method": "soap"})
    before = [weight.detach().clone() for weight in weights]
    for _ in range(2):
        with pytest.raises(ValueError, match="method must stay"):
            run(optimizer, weights, 1)
    assert_equal(before, weights)


def test_it_is_refused_too_where_another_goes_to_other_blocks_and_all_stays_as_it_was():
    optimizer, weights, other, others = pair("soap")
    group = optimizer.param_groups[0]
    rows = [(weights[:2], {"block_size": 3}), (weights[2:], {"method": "kl_shampoo"})]
    optimizer.param_groups[:] = [{**group, "params": row, **options} for row, options in rows]
    with pytest.raises(ValueError, match="method must stay"):
        run(optimizer, weights, 1)
    optimizer.param_groups[:] = [group]
    assert_go_on_alike(optimizer, weights, other, others)


@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_what_has_gone_to_other_blocks_is_saved_in_those(method):
    optimizer, weights, _, _ = pair(method)
    moved = optimizer.param_groups[0]["params"].pop(3)
    optimizer.add_param_group({"params": [moved], **OPTIONS, "method": method, "block_size": 3})
    weights = [*optimizer.param_groups[0]["params"], moved]
    others = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    other = Shampoo([{"params": others[:-1]}, {"params": others[-1:]}])
    other.load_state_dict(optimizer.state_dict())
    assert_go_on_alike(optimizer, weights, other, others)


@ALL
def test_entries_that_are_replaced_by_dicts_are_loaded(variant):
    """What trainers do that move state to a device and back."""
    optimizer, weights, other, others = pair(variant)
    for weight in weights[1:]:
        optimizer.state[weight] = dict(optimizer.state[weight].items())
    assert_go_on_alike(optimizer, weights, other, others)


@ALL
def test_a_parameter_whose_entry_is_removed_begins_anew_alone(variant):
    optimizer, weights, other, others = pair(variant)
    del optimizer.state[weights[3]]
    assert optimizer.state_dict()["state"].keys() == {0, 1, 2, 4}
    kept = [weight if i != 3 else None for i, weight in enumerate(weights)]
    weights[3].grad = torch.ones_like(weights[3])
    assert_go_on_alike(optimizer, kept, other, others)
    assert float(optimizer.state[weights[3]]["step"]) == 6


@ALL
@pytest.mark.parametrize("steps", [1, 5])
def test_replaced_memory_changes_nothing(variant, steps):
    optimizer, weights, other, others = pair(variant, dtype=torch.float32)
    for _ in range(2):
        old = [weight.data for weight in weights]
        before = [weight.clone() for weight in old]
        for number, weight in enumerate(weights):
            weight.data = weight.detach().clone()
            if number == 2:  # a view of something larger, with other strides
                weight.data = torch.cat([weight.detach().T, torch.ones(1, 6)])[:5].T
        assert_go_on_alike(optimizer, weights, other, others, steps)
        assert_equal(weights, others)
        assert_equal(old, before)


@pytest.mark.parametrize(
    ("place", "shape"), [(1, (3000,)), (1, (2,)), (0, (60, 5)), (3, (2, 9)), (3, (9, 4))]
)
@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_another_shape_is_refused_by_name_before_anything_moves(method, place, shape):
    weights = parameters(SHAPES, torch.float32)
    named = [(f"layer.{number}", weight) for number, weight in enumerate(weights)]
    optimizer = Shampoo(named, **{**OPTIONS, "method": method})
    run(optimizer, weights, 3)
    weights[place].grad = None
    weights[place].data = torch.ones(shape)
    before = [weight.detach().clone() for weight in weights]
    for _ in range(2):
        with pytest.raises(RuntimeError, match=rf"layer.{place} had shape .* and now has"):
            run(optimizer, weights, 1)
    assert_equal(before, weights)
    with pytest.raises(RuntimeError, match=rf"{place} had shape"):
        optimizer.state_dict()
    del optimizer.state[weights[place]]
    run(optimizer, weights, 2)
    steps = [float(optimizer.state[weight]["step"]) for weight in weights]
    assert steps == [2 if index == place else 5 for index in range(5)]
    assert not torch.equal(before[place], weights[place])


def test_a_gradient_of_another_shape_and_freed_memory_are_refused():
    weights = parameters([(6, 5), (7,)], torch.float32)
    optimizer = Shampoo([("matrix", weights[0]), ("vector", weights[1])], **OPTIONS)
    run(optimizer, weights, 2)
    del optimizer.state[weights[1]]
    weights[1].data = torch.ones(3)
    with pytest.raises(RuntimeError, match=r"vector has shape \(3,\), but its gradient has \(7,\)"):
        optimizer.step()
    weights[1].grad = None
    weights[0].untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match=r"matrix of shape \(6, 5\) has no memory"):
        optimizer.step()


@ALL
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_state_follows_a_parameter_to_another_dtype(variant, dtype):
    optimizer, weights = after_steps(5, SHAPES, torch.float32, **VARIANTS[variant])
    for weight in weights:
        weight.grad, weight.data = None, weight.data.to(dtype)
    before = [weight.detach().clone() for weight in weights]
    run(optimizer, weights, 2, first_seed=5)
    entry = optimizer.state[weights[0]]
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert float(entry["step"]) == 7
    moments = [entry[name] for name in ("exp_avg", "exp_avg_sq", "basis_sq") if name in entry]
    assert {moment.dtype for moment in moments} <= {expected}
    for weight, old in zip(weights, before, strict=True):
        assert weight.dtype == dtype
        assert 0 < (weight - old).abs().max() < 0.5


def test_a_copy_of_a_strided_weight_ends_with_the_step():
    """What can be reached from the optimizer takes no more memory than for a contiguous weight."""
    taken = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        kernel = torch.randn(8, 4, 3, 3).to(memory_format=memory_format)
        parameter = torch.nn.Parameter(kernel)
        optimizer = Shampoo([parameter], lr=0.1)
        for _ in range(2):
            parameter.grad = torch.randn_like(kernel)
            optimizer.step()
        parameter.grad = None
        gc.collect()
        taken.append(sum(stepped.storages([optimizer]).values()))
    assert taken[0] == taken[1]
