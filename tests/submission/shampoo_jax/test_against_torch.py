"""JAX's version takes the steps of PyTorch's, in float64 and to rounding."""

import pytest

pytest.importorskip("jax", reason="JAX is not installed: requirements-jax.txt")

from tests.submission.shampoo_jax.streams import worst_difference

CASES = {
    "two sides, 1/4": {},
    "1/2, together": {"exponent": 0.5, "refresh": "together"},
    "look-ahead, uncut": {"nesterov": True, "block_size": 64, "refresh_interval": 7},
    "one side": {"max_aspect": 1.0, "betas": (0.0, 0.9), "factor_interval": 3},
    "long side alone": {"oversize": "one_sided", "table_aspect": 1.0, "max_dim": 8},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_takes_the_same_steps(options):
    assert worst_difference(options) <= 1e-9
