"""What a step does, and what the options change."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from submission.shampoo import Shampoo
from tests.submission.shampoo.streams import OPTIONS, parameters, run, set_grads


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


def test_blocking_options_may_not_change_after_the_first_step():
    weights = parameters([(6, 5)])
    optimizer = Shampoo(weights, **OPTIONS)
    run(optimizer, weights, 1)
    optimizer.param_groups[0]["block_size"] = 3
    with pytest.raises(ValueError, match="block_size"):
        run(optimizer, weights, 1)


def test_a_side_without_a_factor_takes_no_memory_for_one():
    weights = parameters([(10_000, 4)], torch.float32)
    optimizer = Shampoo(weights)
    run(optimizer, weights, 1)
    entry = optimizer.state_dict()["state"][0]
    assert sum(value.numel() for value in entry.values()) < 3 * weights[0].numel()
    names = {"", "_weight", "_root", "_health"}
    assert set(entry) == {"step", "exp_avg", "exp_avg_sq"} | {f"right{name}.0" for name in names}


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
