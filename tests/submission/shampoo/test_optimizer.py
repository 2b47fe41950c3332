"""The optimizer against its reference twin, and as a citizen of torch.optim."""

import copy
import io
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from submission.shampoo import Shampoo, roots
from submission.shampoo.reference import ReferenceShampoo

OPTIONS = {
    "lr": 0.01,
    "betas": (0.9, 0.99),
    "eps": 1e-8,
    "weight_decay": 0.1,
    "block_size": 5,
    "max_dim": 64,
    "max_aspect": 4.0,
    "exponent": None,
    "refresh": "together",
    "damping": 1e-3,
    "refresh_interval": 3,
    "nesterov": False,
}
SHAPES = [(7,), (), (12, 9), (11, 2), (3, 4, 2, 2), (70, 3), (5, 1), (10, 10), (30, 2)]


def parameters(shapes=SHAPES, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return [torch.nn.Parameter(value.to(dtype)) for value in draw]


def set_grads(seed, *lists):
    """Gives the parameters of each list the same random gradients."""
    generator = torch.Generator().manual_seed(seed)
    for row in zip(*lists, strict=True):
        grad = torch.randn(row[0].shape, generator=generator, dtype=torch.float64)
        for parameter in row:
            parameter.grad = grad.to(parameter.dtype)


def run(optimizer, weights, steps, first_seed=0):
    for seed in range(first_seed, first_seed + steps):
        set_grads(seed, weights)
        optimizer.step()


def assert_equal(left, right):
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a, b)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.integers(1, 13), max_size=4).map(tuple), min_size=1, max_size=4),
    st.fixed_dictionaries(
        {
            "block_size": st.integers(2, 9),
            "max_dim": st.integers(2, 80),
            "max_aspect": st.sampled_from([1.0, 2.0, 16.0]),
            "exponent": st.sampled_from([None, 0.25, 0.5]),
            "refresh_interval": st.integers(1, 5),
            "nesterov": st.booleans(),
            "weight_decay": st.sampled_from([0.0, 0.1]),
            "betas": st.sampled_from([(0.9, 0.99), (0.0, 0.999), (0.95, 0.5)]),
        }
    ),
    st.sets(st.integers(0, 4), max_size=3),
    st.integers(0, 10**6),
)
def test_agrees_with_the_reference_over_a_stream_of_gradients(shapes, options, spoilt, seed):
    options = {**OPTIONS, **options}
    double, single = parameters(shapes, seed=seed), parameters(shapes, torch.float32, seed)
    twins = [ReferenceShampoo(weight.detach().numpy(), **options) for weight in double]
    optimizers = [Shampoo(double, **options), Shampoo(single, **options)]
    for step in range(8):
        set_grads(seed + step, double, single)
        if step in spoilt:
            double[0].grad.view(-1)[:1] = single[0].grad.view(-1)[:1] = torch.nan
        for weight, twin in zip(double, twins, strict=True):
            grad = weight.grad if step not in spoilt else torch.full_like(weight, torch.nan)
            twin.step(grad.numpy())
        for optimizer in optimizers:
            optimizer.step()
    for a, b, twin in zip(double, single, twins, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), twin.weight, rtol=0, atol=1e-10)
        np.testing.assert_allclose(b.detach().numpy(), twin.weight, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.02},
        {"betas": (0.8, 0.99)},
        {"betas": (0.9, 0.9)},
        {"eps": 1e-2},
        {"weight_decay": 0.3},
        {"block_size": 64},
        {"max_dim": 8},
        {"max_aspect": 2.0},
        {"exponent": 0.5},
        {"damping": 1e-1},
        {"refresh_interval": 50},
        {"nesterov": True},
    ],
    ids=str,
)
def test_every_option_changes_behaviour(change):
    base, changed = parameters(), parameters()
    run(Shampoo(base, **OPTIONS), base, 8)
    run(Shampoo(changed, **{**OPTIONS, **change}), changed, 8)
    assert any(not torch.equal(a, b) for a, b in zip(base, changed, strict=True))


def test_vectors_take_torch_adamws_steps():
    ours, theirs = parameters([(6,), (3, 1)]), parameters([(6,), (3, 1)])
    mine = Shampoo(ours, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    adamw = torch.optim.AdamW(theirs, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    run(mine, ours, 5)
    run(adamw, theirs, 5)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_a_matrix_moves_as_far_as_adamw_would():
    ours, theirs = parameters([(6, 5)]), parameters([(6, 5)])
    before = ours[0].detach().clone()
    run(Shampoo(ours, lr=0.01), ours, 1)
    run(torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.0), theirs, 1)
    assert torch.allclose((ours[0] - before).norm(), (theirs[0] - before).norm(), rtol=1e-10)
    assert not torch.allclose(ours[0], theirs[0])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("position", [0, 2])
@pytest.mark.parametrize("steps", [4, 5], ids=["plain step", "refresh step"])
def test_a_non_finite_gradient_changes_nothing(bad, position, steps):
    weights = parameters()
    optimizer = Shampoo(weights, **OPTIONS)
    run(optimizer, weights, steps)
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


@pytest.mark.parametrize("exponent", [None, 0.5, 1.0])
def test_wild_gradients_never_make_a_weight_non_finite(exponent):
    weights = parameters([(9, 7), (5,), (12, 3)], torch.float32)
    optimizer = Shampoo(weights, lr=0.01, block_size=6, refresh_interval=4, exponent=exponent)
    generator = torch.Generator().manual_seed(0)
    for step in range(300):
        set_grads(step, weights)
        for weight in weights:
            kind = int(torch.randint(0, 6, (), generator=generator))
            weight.grad *= [1.0, 0.0, 1e-30, 1e-12, 1e15, 1e30][kind]
            if step % 17 == 0:
                weight.grad.view(-1)[0] = torch.nan
        optimizer.step()
        assert all(weight.isfinite().all() for weight in weights), step


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


def test_a_first_gradient_that_is_not_finite_is_followed_by_adamws_steps_until_the_next_refresh():
    ours, theirs = parameters([(6, 5)]), parameters([(6, 5)])
    mine = Shampoo(ours, lr=0.01, betas=(0.9, 0.99), refresh_interval=4, refresh="together")
    adamw = torch.optim.AdamW(theirs, lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)
    for seed in range(2):
        set_grads(seed, ours)
        ours[0].grad[0, 0] = torch.nan
        mine.step()
    run(mine, ours, 1)
    run(adamw, theirs, 1)
    assert torch.allclose(ours[0], theirs[0], atol=1e-12)
    run(mine, ours, 1)
    run(adamw, theirs, 1)
    assert not torch.allclose(ours[0], theirs[0], atol=1e-4)


def test_a_root_that_cannot_be_trusted_keeps_its_predecessor_and_is_counted(monkeypatch):
    healthy, failing = parameters([(6, 5)]), parameters([(6, 5)])
    options = {**OPTIONS, "block_size": 8, "refresh_interval": 2}
    first = Shampoo(healthy, **{**options, "refresh_interval": 10**6})
    second = Shampoo(failing, **options)
    run(first, healthy, 1)
    run(second, failing, 1)
    real = roots.inverse_root

    def distrusted(*arguments):
        found = real(*arguments)
        return found._replace(trusted=torch.zeros_like(found.trusted))

    monkeypatch.setattr(roots, "inverse_root", distrusted)
    for optimizer, weights in ((first, healthy), (second, failing)):
        optimizer.param_groups[0]["refresh_step"] = 2  # the next step is 3: due for neither
        run(optimizer, weights, 2)
    assert torch.equal(healthy[0], failing[0])
    assert second.diagnostics()["failed_roots"] == 2


@pytest.mark.parametrize("steps", [3, 4])
def test_a_missing_gradient_leaves_a_parameter_and_its_state_alone(steps):
    weights = parameters([(6, 5), (6, 5)])
    optimizer = Shampoo(weights, **OPTIONS)
    run(optimizer, weights, steps)
    value = weights[1].detach().clone()
    state = copy.deepcopy(optimizer.state_dict()["state"][1])
    set_grads(50, weights)
    weights[1].grad = None
    optimizer.step()
    assert torch.equal(weights[1], value)
    for name, tensor in optimizer.state_dict()["state"][1].items():
        assert torch.equal(tensor, state[name]), name


def _through_torch_save(optimizer, weights):
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    copies = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    other = Shampoo(copies)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    return other, copies


def _through_deepcopy(optimizer, weights):
    del weights
    other = copy.deepcopy(optimizer)
    return other, other.param_groups[0]["params"]


def _through_pickle(optimizer, weights):
    del weights
    other = pickle.loads(pickle.dumps(optimizer))
    return other, other.param_groups[0]["params"]


@pytest.mark.parametrize("travel", [_through_torch_save, _through_deepcopy, _through_pickle])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("steps", [3, 4, 5])
def test_a_travelled_optimizer_continues_bitwise(travel, dtype, steps):
    weights = parameters(dtype=dtype)
    optimizer = Shampoo(weights, **OPTIONS)
    run(optimizer, weights, steps)
    other, copies = travel(optimizer, weights)
    run(optimizer, weights, 6, first_seed=5)
    run(other, copies, 6, first_seed=5)
    assert_equal(weights, copies)


def test_state_is_per_parameter_and_does_not_depend_on_stacking():
    together, apart = parameters([(6, 5), (6, 5)]), parameters([(6, 5), (6, 5)])
    first = Shampoo(together, **OPTIONS)
    second = Shampoo([{"params": [apart[0]]}, {"params": [apart[1]]}], **OPTIONS)
    run(first, together, 4)
    run(second, apart, 4)
    for a, b in zip(
        first.state_dict()["state"].values(), second.state_dict()["state"].values(), strict=True
    ):
        assert a.keys() == b.keys()
        assert all(torch.allclose(a[name], b[name], atol=1e-12) for name in a)


@pytest.mark.parametrize("shape", [(5, 6), (7, 5)])
def test_state_that_does_not_fit_is_refused_and_nothing_changes(shape):
    weights, others = parameters([(6, 5)]), parameters([shape])
    optimizer, other = Shampoo(weights, **OPTIONS), Shampoo(others, lr=0.5)
    run(optimizer, weights, 1)
    run(other, others, 2)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=r"state_dict: 'exp_avg' of the parameter of shape"):
        other.load_state_dict(optimizer.state_dict())
    after = other.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert all(
        torch.equal(before["state"][0][key], after["state"][0][key]) for key in before["state"][0]
    )


def test_reading_the_state_changes_nothing_also_through_torchs_checkpoint_helpers():
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    model = torch.nn.Linear(5, 6).double()
    weights = list(model.parameters())
    optimizer = Shampoo(weights, **OPTIONS)
    run(optimizer, weights, 3)
    before = copy.deepcopy(optimizer.state_dict()["state"])
    found = get_optimizer_state_dict(model, optimizer)["state"]
    after = optimizer.state_dict()["state"]
    for index, (name, _) in enumerate(model.named_parameters()):
        for key, value in before[index].items():
            assert torch.equal(value, after[index][key])
            assert torch.equal(value, found[name][key])


def test_blocking_options_may_not_change_after_the_first_step():
    weights = parameters([(6, 5)])
    optimizer = Shampoo(weights, **OPTIONS)
    run(optimizer, weights, 1)
    optimizer.param_groups[0]["block_size"] = 3
    with pytest.raises(ValueError, match="block_size"):
        run(optimizer, weights, 1)


def test_frozen_parameters_cost_nothing_and_may_be_thawed():
    weights, alone = parameters([(6, 5), (6, 5)]), parameters([(6, 5), (6, 5)])
    both, one = Shampoo(weights, **OPTIONS), Shampoo(alone[:1], **OPTIONS)
    for seed in range(4):
        set_grads(seed, weights, alone)
        weights[1].grad = None
        both.step()
        one.step()
    assert torch.equal(weights[0], alone[0])
    assert list(both.state_dict()["state"]) == [0]
    run(both, weights, 2)
    assert list(both.state_dict()["state"]) == [0, 1]
    assert both.state_dict()["state"][0]["step"] == 6


def test_a_side_without_a_factor_takes_no_memory_for_one():
    weights = parameters([(10_000, 4)], torch.float32)
    optimizer = Shampoo(weights)
    run(optimizer, weights, 1)
    entry = optimizer.state_dict()["state"][0]
    assert sum(value.numel() for value in entry.values()) < 3 * weights[0].numel()
    names = {"", "_weight", "_root", "_health"}
    assert set(entry) == {"step", "exp_avg", "exp_avg_sq"} | {f"right{name}.0" for name in names}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("decay", [0.03, 0.05])
def test_low_precision_weights_decay_as_under_torchs_adamw(decay, layout):
    """Rounding 1 - lr * weight_decay itself to bfloat16 gives another decay."""
    ours, theirs = (
        torch.nn.Parameter(torch.ones(4, 3, 2, 2).bfloat16().to(memory_format=layout))
        for _ in range(2)
    )
    optimizers = [
        Shampoo([ours], lr=0.1, weight_decay=decay),
        torch.optim.AdamW([theirs], lr=0.1, weight_decay=decay),
    ]
    for _ in range(100):
        ours.grad, theirs.grad = torch.zeros_like(ours), torch.zeros_like(theirs)
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(ours, theirs)
    assert ours.max() < 0.7


def test_channels_last_weights_and_gradients_give_the_contiguous_result():
    plain, last = parameters([(8, 4, 3, 3)]), parameters([(8, 4, 3, 3)])
    last[0].data = last[0].data.to(memory_format=torch.channels_last)
    first, second = Shampoo(plain, **OPTIONS), Shampoo(last, **OPTIONS)
    for seed in range(4):
        set_grads(seed, plain, last)
        last[0].grad = last[0].grad.to(memory_format=torch.channels_last)
        first.step()
        second.step()
    assert torch.allclose(plain[0], last[0], atol=1e-12)
    assert last[0].is_contiguous(memory_format=torch.channels_last)


def test_groups_have_their_own_options_and_may_be_added_later():
    weights = parameters([(6, 5), (6, 5)])
    optimizer = Shampoo([weights[0]], lr=0.01)
    run(optimizer, weights[:1], 2)
    optimizer.add_param_group({"params": [weights[1]], "lr": 0.0})
    value = weights[1].detach().clone()
    run(optimizer, weights, 2)
    assert torch.equal(weights[1], value)


def test_onecycle_and_tensor_learning_rates():
    weights, others = parameters([(6, 5)]), parameters([(6, 5)])
    optimizer = Shampoo(weights, lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    for seed in range(5):
        set_grads(seed, weights)
        optimizer.step()
        schedule.step()
    assert weights[0].isfinite().all()
    run(Shampoo(others, lr=torch.tensor([0.01]), weight_decay=0.0), others, 2)
    plain = parameters([(6, 5)])
    run(Shampoo(plain, lr=0.01), plain, 2)
    assert torch.allclose(others[0], plain[0], rtol=1e-6)


def test_closure_is_evaluated_and_its_value_returned():
    weight = torch.nn.Parameter(torch.eye(4))
    optimizer = Shampoo([weight], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 4
    assert weight.square().sum() < 4


def test_dtypes_may_mix_and_either_may_lack_gradients():
    weights = [*parameters([(6, 5), (3,)]), *parameters([(6, 5)], torch.bfloat16)]
    weights.append(torch.nn.Parameter(torch.zeros(0, 4)))
    optimizer = Shampoo(weights, lr=0.01, weight_decay=0.1)
    for kept in ([0, 1, 3], [2, 3], [3], [0, 1, 2, 3]):
        set_grads(0, weights)
        for index, weight in enumerate(weights):
            if index not in kept:
                weight.grad = None
        before = [weight.detach().clone() for weight in weights]
        optimizer.step()
        moved = [not torch.equal(a, b) for a, b in zip(before, weights, strict=True)]
        assert moved == [
            index in kept and weight.numel() > 0 for index, weight in enumerate(weights)
        ]


def test_no_gradients_is_no_step():
    weights = parameters([(6, 5)])
    optimizer = Shampoo(weights)
    optimizer.step()
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"lr": -1.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"eps": 0.0}, "eps"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"exponent": 0.0}, "exponent"),
        ({"damping": 0.0}, "damping"),
        ({"refresh_interval": 0}, "refresh_interval"),
    ],
)
def test_bad_options_are_named(options, name):
    with pytest.raises(ValueError, match=name):
        Shampoo(parameters([(2, 2)]), **options)
    good = Shampoo(parameters([(2, 2)]))
    with pytest.raises(ValueError, match=name):
        good.add_param_group({"params": parameters([(3, 3)]), **options})
    assert len(good.param_groups) == 1


def test_complex_parameters_and_sparse_gradients_are_refused():
    with pytest.raises(ValueError, match="complex"):
        Shampoo([torch.nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))])
    table = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = Shampoo(table.parameters())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


def test_repr_says_what_happens_to_each_parameter():
    model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 300))
    text = repr(Shampoo(model.named_parameters(), block_size=100, max_aspect=30.0))
    assert "0.weight [4, 6]: Shampoo, 1 x [4, 6]" in text
    assert "0.bias [4]: AdamW (vector)" in text
    assert "1.weight [300, 4]: Shampoo, 3 x [100, 4]" in text


class _Operators(TorchDispatchMode):
    """Counts dispatched operators by name."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.counts[str(operator)] += 1
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "soap"},
        {"method": "kl_shampoo"},
        {"grafting_scope": "layer", "nesterov": True, "momentum": 0.5},
        {"grafting": "adagrad", "factor_dtype": torch.bfloat16, "root_dtype": torch.bfloat16},
        {"averaging": "ema", "decay_mode": "l2"},
        {"averaging": "schedule_free"},
    ],
    ids=str,
)
def test_kernels_of_a_step_do_not_grow_with_parameters_and_none_waits_for_the_device(options):
    def counted(count):
        weights = parameters([(6, 5), (12, 9), (7,)] * count, torch.float32)
        optimizer = Shampoo(weights, lr=0.01, weight_decay=0.1, block_size=6, **options)
        run(optimizer, weights, 2)
        optimizer.param_groups[0].update(refresh="together", refresh_interval=1000)
        set_grads(9, weights)
        with _Operators() as operators:
            optimizer.step()
        return operators.counts

    few, many = counted(2), counted(8)
    views = {"aten.view.default", "aten.as_strided.default", "aten.slice.Tensor", "aten.select.int"}
    assert {name for name in many if many[name] > few[name]} <= views
    waits = {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.is_nonzero.default"}
    assert not waits & many.keys()
