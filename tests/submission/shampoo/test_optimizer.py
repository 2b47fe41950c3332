"""What a step does, and what the options change."""

import gc
import math
import re
from functools import partial
from pathlib import Path

import pytest
import torch

from submission.shampoo import Shampoo, config, diagonal, presets
from submission.shampoo.group_state import GroupState
from tests.submission.shampoo.operators import Operators
from tests.submission.shampoo.streams import (
    OPTIONS,
    SHAPES,
    assert_equal,
    parameters,
    run,
    set_grads,
)

CHANGES = [
    {"lr": 0.02},
    {"betas": (0.8, 0.99)},
    {"betas": (0.9, 0.9)},
    {"eps": 1e-2},
    {"weight_decay": 0.3},
    {"block_size": 64},
    {"matrix_dims": "stack"},
    {"table": True},
    {"max_dim": 8},
    {"table_aspect": 30.0},
    {"max_aspect": 2.0},
    {"exponent": 0.5},
    {"exponent": "auto"},
    {"damping": 1e-1},
    {"refresh_interval": 50},
    {"nesterov": True},
    {"method": "soap"},
    {"method": "kl_shampoo"},
    {"block_aspect": math.inf},
    {"max_dim": 8, "oversize": "one_sided"},
    {"root_solver": "products"},
    {"grafting": None},
    {"grafting": "sgd"},
    {"grafting": "adagrad"},
    {"grafting": "rmsprop"},
    {"momentum": 0.5},
    {"decay_mode": "l2"},
    {"decay_mode": "independent"},
    {"refresh": "staggered"},
    {"overlap": True},
    {"maximize": True},
    {"factor_dtype": torch.bfloat16},
    {"root_dtype": torch.bfloat16},
    {"averaging": "schedule_free"},
]
# Those that other tests change: where methods, solvers, averages or kernels differ.
ELSEWHERE = {
    *("split", "basis_solver", "averaging_share", "averaging_decay", "averaging_beta"),
    *("fused", "capturable"),
}


def test_no_option_is_without_effect_or_a_word_about_it():
    """A new one belongs into `CHANGES`, and into the page that says what each of them is for."""
    assert {name for change in CHANGES for name in change} | ELSEWHERE == set(config.OPTIONS)
    page = (Path(__file__).parents[3] / "docs" / "heuristics.md").read_text()
    named = set(re.findall(r"`(\w+)(?:=[^`]*)?`", page))
    assert set(config.OPTIONS) - named == {"lr", "maximize", "fused", "capturable"}


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_option_changes_behaviour(change):
    shapes = [*SHAPES, (100, 300)]
    base, changed = parameters(shapes, torch.float32), parameters(shapes, torch.float32)
    large = {"block_size": 300, "max_dim": 300} if "block_aspect" in change else {}
    options = {**OPTIONS, **large}
    run(Shampoo(base, **options), base, 8)
    run(Shampoo(changed, **{**options, **change}), changed, 8)
    assert any(not torch.equal(a, b) for a, b in zip(base, changed, strict=True))


@pytest.mark.parametrize("method", ["soap", "kl_shampoo"])
def test_basis_solvers_differ(method):
    runs = []
    for solver in ("eigh", "qr", "cholesky_qr"):
        weights = parameters([(30, 20)], torch.float32)
        run(Shampoo(weights, method=method, basis_solver=solver, refresh_interval=2), weights, 9)
        runs.append(weights[0])
    assert not torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[1], runs[2])


@pytest.mark.parametrize("averaging", ["ema", "schedule_free"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("averaging_share", 0.3),
        ("averaging_decay", 0.7),
        ("averaging_beta", 0.7),
    ],
)
def test_averages_are_read_in_eval_mode_and_weights_come_back_bitwise(averaging, name, value):
    weights, others = parameters(), parameters()
    optimizer = Shampoo(weights, **OPTIONS, averaging=averaging)
    other = Shampoo(others, **OPTIONS, averaging=averaging, **{name: value})
    run(optimizer, weights, 4)
    run(other, others, 4)
    trained = [weight.detach().clone() for weight in weights]
    optimizer.eval()
    other.eval()
    with pytest.raises(RuntimeError, match=r"train\(\)"):
        run(optimizer, weights, 1)
    assert not any(torch.equal(a, b) for a, b in zip(trained, weights, strict=True))
    matters = (averaging == "ema") == (name != "averaging_beta")
    assert torch.equal(weights[2], others[2]) != matters
    optimizer.train()
    assert_equal(trained, weights)


def test_a_group_without_averaging_is_evaluated_as_it_is_trained():
    weights = parameters([(6, 5), (8, 3)])
    groups = [{"params": weights[:1]}, {"params": weights[1:], "averaging": None}]
    optimizer = Shampoo(groups, **OPTIONS, averaging="ema", averaging_share=0.3)
    run(optimizer, weights, 4)
    trained = [weight.detach().clone() for weight in weights]
    optimizer.eval()
    assert not torch.equal(weights[0], trained[0])
    assert torch.equal(weights[1], trained[1])
    optimizer.train()
    assert_equal(trained, weights)


@pytest.mark.parametrize("bad", [{"point": 0}, {"point": 6}])
def test_presets_say_what_they_do_not_know(bad):
    with pytest.raises(ValueError, match="point must be an integer from 1 to 5"):
        presets.algoperf_winner(parameters(), **bad)


@pytest.mark.parametrize("point", range(1, 6))
def test_the_winning_points_take_the_winners_options(point):
    weights = parameters([(9, 7), (5,)])
    optimizer = presets.algoperf_winner(weights, point)
    group = optimizer.param_groups[0]
    assert group["refresh_interval"] == 100
    assert (group["grafting"] == "sgd") == (point == 3)
    assert group["exponent"] == (0.5 if point == 4 else None)
    run(optimizer, weights, 3)
    assert all(weight.isfinite().all() for weight in weights)


@pytest.mark.parametrize(
    ("grafting", "rival", "options"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ("sgd", torch.optim.SGD, {"momentum": 0.9}),
        ("adagrad", torch.optim.Adagrad, {"eps": 1e-8}),
        ("rmsprop", torch.optim.RMSprop, {"eps": 1e-8}),
        ("adam", partial(torch.optim.Adam, betas=(0.0, 0.99)), {}),
    ],
)
def test_parameters_without_blocks_take_the_grafted_methods_own_step(grafting, rival, options):
    weights, expected = parameters([(6,)]), parameters([(6,)])
    options = {"lr": 0.1, "weight_decay": 0.2, **options}
    optimizer = Shampoo(weights, grafting=grafting, betas=(0.0, 0.99), decay_mode="l2", **options)
    run(optimizer, weights, 5)
    run(rival(expected, **options), expected, 5)
    assert torch.allclose(weights[0], expected[0], atol=1e-12)
    assert "exp_avg" not in optimizer.state[weights[0]]


def test_adam_in_the_identity_basis_is_adam():
    """Before their first refresh SOAP's bases are the identity."""
    weights, expected = parameters([(6, 5)]), parameters([(6, 5)])
    optimizer = Shampoo(weights, lr=0.01, method="soap", refresh_interval=1000)
    optimizer.param_groups[0]["refresh_step"] = 1024
    adamw = torch.optim.AdamW(expected, lr=0.01, weight_decay=0.0)
    optimizer.param_groups[0]["refresh"] = "together"
    run(optimizer, weights, 5)
    run(adamw, expected, 5)
    assert torch.allclose(weights[0], expected[0], atol=1e-12)


@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_overlapped_refreshes_are_those_of_a_step_later(method):
    """With refreshes at every step, each is of the factors that the step before left."""
    options = {**OPTIONS, "method": method, "refresh_interval": 1}
    weights = parameters()
    optimizer = Shampoo(weights, **options, overlap=True)
    run(optimizer, weights, 6)
    optimizer.finish()
    overlapped_state = optimizer.state_dict()["state"][2]
    others = parameters()
    inline = Shampoo(others, **options)
    run(inline, others, 6)
    # The factors do not depend on the weights here, and so neither do roots or bases.
    inline_state = inline.state_dict()["state"][2]
    for name in inline_state:
        if method == "kl_shampoo" or not name.startswith(("left", "right")):
            continue
        torch.testing.assert_close(overlapped_state[name], inline_state[name], msg=name)
    assert not torch.equal(weights[2], others[2])


@pytest.mark.parametrize("solver", ["eigh", "qr"])
def test_soaps_update_moves_continuously_through_a_refresh(solver):
    """A refresh turns the basis; what it must not do is change lengths on the way.

    The update before and after is the same M seen by second moments of the same total, so its norm
    stays near Adam's; with V left behind in the old basis it grows by orders of magnitude.
    """
    lengths = []
    weights = parameters([(24, 16)], torch.float32)
    optimizer = Shampoo(
        weights,
        lr=1.0,
        betas=(0.9, 0.99),
        eps=1e-12,
        method="soap",
        basis_solver=solver,
        refresh_interval=20,
        refresh="together",
    )
    generator = torch.Generator().manual_seed(1)
    scale = torch.logspace(0, -3, 24)[:, None] * torch.logspace(0, -3, 16)
    turn = torch.linalg.qr(torch.randn(24, 24, generator=generator))[0]
    for _ in range(100):
        before = weights[0].detach().clone()
        noise = torch.randn(24, 16, generator=generator)
        weights[0].grad = turn @ (scale * noise)
        optimizer.step()
        lengths.append((weights[0].detach() - before).norm().item())
    at_refreshes = [lengths[step - 1] for step in (20, 40, 60, 80, 100)]
    others = sorted(lengths[10:])
    assert max(at_refreshes) < 1.5 * others[len(others) // 2]


def test_state_is_no_larger_than_the_matrices_it_describes():
    """Packed factors and roots: a block [d, d] needs fewer than 4 d^2 beside its two moments."""
    weights = [torch.nn.Parameter(torch.zeros(1024, 1024))]
    weights[0].grad = torch.zeros_like(weights[0])
    optimizer = Shampoo(weights, refresh_interval=10**6, refresh="together")
    optimizer.param_groups[0]["refresh_step"] = 10**7
    optimizer.step()
    elements = sum(value.numel() for value in optimizer.state_dict()["state"][0].values())
    assert elements < 4.7 * 1024**2


def test_vectors_take_torch_adamws_steps_and_long_ones_have_one_counter():
    shapes = [(6,), (3, 1), (70_000,)]
    weights, expected = parameters(shapes), parameters(shapes)
    optimizer = Shampoo(weights, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    adamw = torch.optim.AdamW(expected, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    run(optimizer, weights, 5)
    run(adamw, expected, 5)
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-12)
    assert optimizer.diagnostics()["state_bytes"] < 16.2 * 70_000


def test_the_fused_kernel_steps_like_the_stacks_whatever_changes_between_steps(monkeypatch):
    changes = {
        4: {"nesterov": True},
        7: {"nesterov": False, "betas": (0.8, 0.95)},
        10: {"momentum": 0.5},
        12: {"momentum": 0.0, "lr": torch.tensor([0.02])},
        14: {"decay_mode": "independent", "weight_decay": 0.3},
    }
    shapes = [(7,), (), (5, 1), (70, 3)]
    fused_weights, plain_weights = (parameters(shapes, torch.float32) for _ in range(2))
    for weights in (fused_weights, plain_weights):
        optimizer = Shampoo(weights, **OPTIONS)
        for seed in range(20):
            optimizer.param_groups[0].update(changes.get(seed, {}))
            set_grads(seed, weights)
            if seed in (0, 5, 15):
                weights[0].grad[0] = torch.nan
            if seed in (3, 16):
                weights[3].grad = None
            optimizer.step()
        monkeypatch.setattr(diagonal, "is_fused_step", lambda *_: False)
    assert not all(torch.equal(a, b) for a, b in zip(fused_weights, plain_weights, strict=True))
    torch.testing.assert_close(fused_weights, plain_weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("averaging", [None, "schedule_free"])
def test_nothing_but_the_state_is_kept_between_steps_where_a_kernel_needs_no_buffer(averaging):
    weights = parameters([(20_000, 4)], torch.float32)
    before = _storages()
    optimizer = Shampoo(weights, averaging=averaging)
    run(optimizer, weights, 3)
    weights[0].grad = None
    allocated = sum(size for key, size in _storages().items() if key not in before)
    moments = 2 if averaging is None else 3
    assert allocated < (moments + 0.1) * weights[0].nbytes


def _storages():
    gc.collect()
    kinds = (torch.Tensor, torch.nn.Parameter)
    tensors = (tensor for tensor in gc.get_objects() if type(tensor) in kinds)
    storages = (tensor.untyped_storage() for tensor in tensors)
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


def test_a_side_without_a_factor_takes_no_memory_for_one():
    weights = parameters([(10_000, 4)], torch.float32)
    optimizer = Shampoo(weights)
    run(optimizer, weights, 1)
    entry = optimizer.state_dict()["state"][0]
    assert sum(value.numel() for value in entry.values()) < 3 * weights[0].numel()
    names = {"", "_root", "_health"}
    names = {f"right{name}.0" for name in names} | {"factor_weight.0"}
    assert set(entry) == {"step", "exp_avg", "exp_avg_sq"} | names


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "soap"},
        {"method": "kl_shampoo"},
        {"nesterov": True, "momentum": 0.5},
        {"grafting": "adagrad", "factor_dtype": torch.bfloat16, "root_dtype": torch.bfloat16},
        {"averaging": "ema", "decay_mode": "l2"},
        {"averaging": "schedule_free"},
    ],
    ids=str,
)
def test_kernels_of_a_step_do_not_grow_with_parameters_and_none_waits_for_the_device(
    options, monkeypatch
):
    # On a CPU the host reads what it likes.
    monkeypatch.setattr(GroupState, "is_on_host", False)

    def counted(count):
        shapes = [(6, 5), (12, 9)] * count + [(7 + number,) for number in range(count)]
        weights = parameters(shapes, torch.float32)
        optimizer = Shampoo(weights, lr=0.01, weight_decay=0.1, block_size=6, **options)
        run(optimizer, weights, 2)
        optimizer.param_groups[0].update(refresh="together", refresh_interval=1000)
        set_grads(9, weights)
        with Operators() as operators:
            optimizer.step()
        return operators.counts

    few, many = counted(2), counted(8)
    views = {"view", "as_strided", "slice", "select"}
    assert {name for name in many if many[name] > few[name]} <= views
    waits = {"_local_scalar_dense", "nonzero", "is_nonzero"}
    assert not waits & many.keys()
