"""Options: which may change, which are refused, and how they are shown."""

import pytest
import torch

from submission.shampoo import Shampoo
from tests.submission.shampoo.streams import (
    OPTIONS,
    after_steps,
    assert_equal,
    parameters,
    run,
    set_grads,
)

# What keeps "auto" from the exponent 1/2.
OBSTACLES = [
    ({"grafting": None}, "grafting"),
    ({"grafting": "sgd"}, "grafting"),
    ({"grafting": "rmsprop"}, "grafting"),
    ({"momentum": 0.9}, "momentum"),
    ({"averaging": "schedule_free"}, "averaging"),
    ({"factor_dtype": torch.bfloat16}, "factor_dtype"),
]


def ends(dtype=torch.float32, **options):
    optimizer, weights = after_steps(8, [(9, 7), (5, 30)], dtype, **options)
    return weights, repr(optimizer)


@pytest.mark.parametrize(
    "options", [{}, {"root_dtype": torch.bfloat16}, {"averaging": "ema"}], ids=str
)
def test_the_exponent_is_one_half_where_that_is_safe(options):
    automatic, text = ends(exponent="auto", **options)
    assert_equal(automatic, ends(exponent=0.5, **options)[0])
    assert "exponent=0.5," in text


@pytest.mark.parametrize(("options", "name"), OBSTACLES, ids=str)
def test_and_that_of_the_paper_where_one_half_is_not_safe(options, name):
    automatic, text = ends(exponent="auto", **options)
    assert_equal(automatic, ends(exponent=None, **options)[0])
    shown = " ".join(text.split())
    assert f"exponent=0.25 (0.5 with one factor; not 0.5 because of {name})" in shown


def test_the_exponent_follows_options_that_change_between_steps():
    changing, constant = parameters([(9, 7)]), parameters([(9, 7)])
    optimizer = Shampoo(changing, **{**OPTIONS, "refresh_interval": 1, "exponent": "auto"})
    other = Shampoo(constant, **{**OPTIONS, "refresh_interval": 1, "exponent": 0.5})
    run(optimizer, changing, 3)
    run(other, constant, 3)
    assert_equal(changing, constant)
    optimizer.param_groups[0]["momentum"] = 0.5
    other.param_groups[0].update(momentum=0.5, exponent=None)
    run(optimizer, changing, 3, first_seed=3)
    run(other, constant, 3, first_seed=3)
    assert_equal(changing, constant)


@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
@pytest.mark.parametrize(
    "change", [{"block_size": 3}, {"table": True}, {"max_aspect": 1.0}, {"matrix_dims": "stack"}]
)
def test_other_blocks_begin_anew_and_moments_stay(method, change):
    """First moments, in the parameters' coordinates, and step counts are those of all gradients."""
    options = {**OPTIONS, "method": method, "refresh_interval": 4}
    shapes = [(6, 5), (9, 3), (4,), (4, 3, 2)]
    changing, constant = parameters(shapes), parameters(shapes)
    optimizer, other = Shampoo(changing, **options), Shampoo(constant, **{**options, **change})
    run(optimizer, changing, 6)
    optimizer.param_groups[0].update(change)
    run(optimizer, changing, 1, first_seed=6)
    run(other, constant, 7)
    anew = method == "kl_shampoo" and "table" in change  # it has no second moments for AdamW
    for weight, same in zip(changing, constant, strict=True):
        entry, expected = optimizer.state[weight], other.state[same]
        if not anew:
            assert entry["step"] == expected["step"] == 7
        if method == "shampoo":  # that of the others is in the basis
            for name in ("exp_avg", "exp_avg_sq"):
                assert torch.allclose(entry[name], expected[name], rtol=1e-12)
    if method != "shampoo" and not anew:
        mean = torch.zeros(6, 5, dtype=torch.float64)
        for seed in range(7):
            set_grads(seed, changing)
            mean.lerp_(changing[0].grad, 1 - OPTIONS["betas"][0])
        assert torch.allclose(optimizer.state[changing[0]]["exp_avg"], mean, rtol=1e-10)
    run(optimizer, changing, 20, first_seed=7)
    assert all(weight.isfinite().all() for weight in changing)
    assert optimizer.diagnostics()["refreshes"] > 0 or "table" in change
    loaded = Shampoo(changing)
    loaded.load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"lr": -1.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"betas": (0.9, 0.9, 0.9)}, "betas must be two numbers"),
        ({"eps": 0.0}, "eps"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"exponent": 0.0}, "exponent"),
        ({"damping": 0.0}, "damping"),
        ({"refresh_interval": 2.5}, "refresh_interval"),
        ({"method": "sgd"}, "method"),
        ({"grafting": "adamw"}, "grafting"),
        ({"root_solver": "svd"}, "root_solver"),
        ({"basis_solver": "svd"}, "basis_solver"),
        ({"refresh": "never"}, "refresh"),
        ({"overlap": 1}, "overlap"),
        ({"capturable": 1}, "capturable must be a boolean"),
        ({"factor_dtype": torch.float16}, "factor_dtype"),
        ({"root_dtype": "float32"}, "root_dtype"),
        ({"averaging": "polyak"}, "averaging"),
        ({"averaging_decay": 1.0}, "averaging_decay"),
        ({"averaging_share": 0.0}, "averaging_share"),
        ({"averaging_share": 0.6}, "averaging_share"),
        ({"averaging_beta": 0.0}, "averaging_beta"),
        ({"momentum": 1.0}, "momentum"),
        ({"decay_mode": "l1"}, "decay_mode"),
        ({"block_size": 1}, "block_size"),
        ({"block_size": 2.5}, "block_size"),
        ({"max_dim": 0}, "max_dim"),
        ({"block_aspect": "wide"}, "block_aspect must be a number >= 1"),
        ({"max_aspect": 0.5}, "max_aspect"),
        ({"oversize": "drop"}, "oversize"),
        ({"exponent": 0.3, "root_solver": "products"}, "exponent"),
        ({"root_solver": "coupled_newton"}, "'products' takes its place"),
        ({"root_solver": "newton_denman_beavers"}, "'products' takes its place"),
        ({"exponent": 0.5, "method": "soap"}, "exponent"),
        (
            {"split": (2, 3)},
            r"split must add up to the rows .* got \(2, 3\), which is 5, for 6 rows",
        ),
        ({"split": [3, 3]}, "split must be None or a tuple"),
        ({"split": ()}, "split must be None or a tuple"),
        ({"split": (0, 6)}, "split must be None or a tuple"),
        ({"matrix_dims": "merge"}, "matrix_dims must be one of"),
        ({"table": "yes"}, "table must be True, False or 'auto'"),
        ({"table_aspect": 0.5}, "table_aspect must be a number >= 1"),
    ],
)
def test_bad_options_are_named(options, name):
    with pytest.raises(ValueError, match=name):
        Shampoo(parameters([(6, 5)]), **options)
    good = Shampoo(parameters([(6, 5)]))
    with pytest.raises(ValueError, match=name):
        good.add_param_group({"params": parameters([(6,), (6, 4)]), **options})
    assert len(good.param_groups) == 1
