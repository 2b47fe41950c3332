"""JAX's version takes the steps of PyTorch's, in float64 and to rounding."""

import pytest

pytest.importorskip("jax", reason="JAX is not installed: requirements-jax.txt")

from tests.submission.shampoo_jax.streams import worst_difference

CASES = {
    "two sides, 1/4": {},
    "1/2, together": {"exponent": 0.5, "refresh": "together"},
    "look-ahead, uncut": {"nesterov": True, "block_size": 64, "refresh_interval": 7},
    "one side": {"max_aspect": 1.0, "betas": (0.0, 0.9), "factor_interval": 3},
    "sgd, momentum": {"grafting": "sgd", "momentum": 0.5, "betas": (0.0, 0.99)},
    "adagrad, layer, l2": {"grafting": "adagrad", "grafting_scope": "layer", "decay_mode": "l2"},
    "rmsprop, look-ahead, independent": {
        "grafting": "rmsprop",
        "nesterov": True,
        "momentum": 0.5,
        "decay_mode": "independent",
    },
    "no grafting, ema": {"grafting": None, "averaging": "ema", "averaging_decay": 0.8},
    "ema over a share": {"averaging": "ema", "averaging_share": 0.2, "averaging_blend": 0.6},
    "ema from step 4": {"averaging": "ema", "averaging_share": 0.5, "averaging_start": 4},
    "schedule-free": {"averaging": "schedule_free"},
    "soap": {"method": "soap", "refresh_interval": 7},
    "soap, grafted, together": {
        "method": "soap",
        "grafting": "adam",
        "refresh": "together",
        "max_aspect": 1.0,
    },
    "kl_shampoo": {"method": "kl_shampoo", "betas": (0.9, 0.9)},
    "kl_shampoo, every second": {
        "method": "kl_shampoo",
        "factor_interval": 2,
        "max_aspect": 1.0,
        "nesterov": True,
    },
    "long side alone": {"oversize": "one_sided", "table_aspect": 1.0, "max_dim": 8},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_takes_the_same_steps(options):
    assert worst_difference(options) <= 1e-9
