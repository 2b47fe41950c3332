"""JAX's version takes the steps of PyTorch's, in float64 and to rounding."""

import pytest

from submission.shampoo_jax import blocks
from tests.submission.shampoo_jax.streams import EVEN, worst_difference

# Every value of every option is in one of them at least; each compiles for seconds.
CASES = {
    "1/2, together, schedule-free": {
        "exponent": 0.5,
        "refresh": "together",
        "averaging": "schedule_free",
    },
    "one side, sgd, momentum": {
        "max_aspect": 1.0,
        "betas": (0.0, 0.9),
        "grafting": "sgd",
        "momentum": 0.5,
    },
    "adagrad, l2, uncut": {
        "grafting": "adagrad",
        "decay_mode": "l2",
        "block_size": 64,
        "refresh_interval": 7,
        "root_solver": "products",
    },
    "rmsprop, look-ahead, independent, long side alone": {
        "grafting": "rmsprop",
        "nesterov": True,
        "momentum": 0.5,
        "decay_mode": "independent",
        "oversize": "one_sided",
        "table_aspect": 1.0,
        "max_dim": 8,
    },
    "no grafting, ema": {"grafting": None, "averaging": "ema", "averaging_decay": 0.8},
    "soap, ema over a share": {
        "method": "soap",
        "refresh_interval": 7,
        "averaging": "ema",
        "averaging_share": 0.2,
    },
    "soap, grafted, together": {
        "method": "soap",
        "grafting": "adam",
        "refresh": "together",
        "max_aspect": 1.0,
    },
    "kl_shampoo, ema over half of the steps": {
        "method": "kl_shampoo",
        "betas": (0.9, 0.9),
        "averaging": "ema",
        "averaging_share": 0.5,
    },
    "kl_shampoo, one side, look-ahead": {
        "method": "kl_shampoo",
        "max_aspect": 1.0,
        "nesterov": True,
    },
}


# Options that the oracle does not have.
WITHOUT_ORACLE = {
    "maximize, l2": {"maximize": True, "decay_mode": "l2"},
    "soap, qr": {"method": "soap", "basis_solver": "qr"},
    "kl_shampoo, cholesky_qr": {
        "method": "kl_shampoo",
        "basis_solver": "cholesky_qr",
        "betas": (0.9, 0.9),
    },
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_takes_the_same_steps(options):
    assert worst_difference(options, shapes=EVEN) <= 1e-9


@pytest.mark.parametrize(
    "case",
    [
        "adagrad, l2, uncut",
        "rmsprop, look-ahead, independent, long side alone",
        "soap, grafted, together",
        "kl_shampoo, one side, look-ahead",
    ],
)
def test_takes_the_same_steps_with_blocks_in_turn(monkeypatch, case):
    monkeypatch.setattr(blocks, "_LONG", 1)
    assert worst_difference(CASES[case], shapes=EVEN) <= 1e-9


def test_takes_the_same_steps_with_blocks_of_several_shapes():
    assert worst_difference() <= 1e-9


@pytest.mark.parametrize("options", WITHOUT_ORACLE.values(), ids=WITHOUT_ORACLE)
def test_takes_the_same_steps_where_there_is_no_oracle(options):
    assert worst_difference(options, shapes=EVEN, has_oracle=False) <= 1e-9


def test_parts_of_fused_matrices_have_blocks_of_their_own():
    shapes = ((7,), (9, 4), (9, 6))
    assert worst_difference({"split": (4, 5)}, shapes=shapes, spoilt=(0, 1, 2, 20)) <= 1e-9
