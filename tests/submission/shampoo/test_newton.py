"""What the iterations stand on: an estimate of the largest eigenvalue, and of how well they did."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.benchmark import root_inputs
from submission.shampoo import newton


@given(st.integers(1, 40), st.floats(0.9, 1.0), st.integers(0, 10**6))
@settings(max_examples=40)
def test_the_estimate_of_the_largest_eigenvalue_is_bounded(size, crowding, seed):
    values = np.random.default_rng(seed).uniform(size=size)
    values = torch.from_numpy(1 - (1 - values / values.max()) * (1 - crowding))
    vectors = root_inputs.log_uniform(size, 10.0).vectors
    matrix = ((vectors * values) @ vectors.T)[None]
    for squarings in (0, 2, 6):
        estimate = newton.largest_eigenvalue(matrix, squarings).item()
        assert size ** (-(0.5 ** (squarings + 1))) - 1e-12 <= estimate <= 1 + 1e-12
    single = newton.largest_eigenvalue(matrix.float(), newton.SQUARINGS[torch.float32]).item()
    assert newton.overshoot(size, torch.float32) * single >= 1
    double = newton.largest_eigenvalue(matrix, newton.SQUARINGS[torch.float64]).item()
    assert double == pytest.approx(1, abs=3e-7)


def test_the_residual_is_the_mean_error_of_the_whitened_matrix():
    size = 48
    spectrum = root_inputs.log_uniform(size, 1e3)
    matrix, root = (spectrum.power(exponent, 0.0)[None] for exponent in (1.0, -0.5))
    assert newton.residual(matrix, root, 2) < 1e-12
    assert newton.residual(matrix, 1.1 * root, 2).item() == pytest.approx(0.21, rel=1e-6)
    direction = spectrum.vectors[:, :1]
    damaged = root + 4 * root @ direction @ direction.T
    exact = (5**2 - 1) / np.sqrt(size)
    assert newton.residual(matrix, damaged, 2).item() == pytest.approx(exact, rel=0.7)


@pytest.mark.parametrize("power", [1, 3, 4])
def test_the_residual_of_any_power_is_that_of_its_identity(power):
    spectrum = root_inputs.log_uniform(12, 1e2)
    root = spectrum.power(-1 / power, 0.0)[None]
    matrix = spectrum.power(1.0, 0.0)[None]
    assert newton.residual(matrix, root, power) < 1e-12
    assert newton.residual(matrix, 1.1 * root, power).item() == pytest.approx(1.1**power - 1)
