"""The iteration to a root, the estimate of the largest eigenvalue before it, the residual after."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.benchmark import root_inputs
from submission.plan import minimax, reference_roots, solvers
from submission.shampoo import iteration
from tests.submission.shampoo.operators import Operators


@given(st.integers(1, 40), st.floats(0.9, 1.0), st.integers(0, 10**6))
@settings(max_examples=40)
def test_the_estimate_of_the_largest_eigenvalue_is_bounded(size, crowding, seed):
    values = np.random.default_rng(seed).uniform(size=size)
    values = torch.from_numpy(1 - (1 - values / values.max()) * (1 - crowding))
    vectors = root_inputs.log_uniform(size, 10.0).vectors
    matrix = ((vectors * values) @ vectors.T)[None]
    for squarings in (0, 2, 6):
        estimate = iteration.largest_eigenvalue(matrix, squarings).item()
        assert size ** (-(0.5 ** (squarings + 1))) - 1e-12 <= estimate <= 1 + 1e-12
    single = iteration.largest_eigenvalue(matrix.float(), solvers.SQUARINGS[32]).item()
    assert solvers.overshoot(size, 32) * single >= 1
    double = iteration.largest_eigenvalue(matrix, solvers.SQUARINGS[64]).item()
    assert double == pytest.approx(1, abs=3e-7)


def test_the_residual_is_the_mean_error_of_the_whitened_matrix():
    size = 48
    spectrum = root_inputs.log_uniform(size, 1e3)
    matrix, root = (spectrum.power(exponent, 0.0)[None] for exponent in (1.0, -0.5))
    assert iteration.residual(matrix, root, 2) < 1e-12
    assert iteration.residual(matrix, 1.1 * root, 2).item() == pytest.approx(0.21, rel=1e-6)
    direction = spectrum.vectors[:, :1]
    damaged = root + 4 * root @ direction @ direction.T
    exact = (5**2 - 1) / np.sqrt(size)
    assert iteration.residual(matrix, damaged, 2).item() == pytest.approx(exact, rel=0.7)


@pytest.mark.parametrize("power", [1, 3, 4])
def test_the_residual_of_any_power_is_that_of_its_identity(power):
    spectrum = root_inputs.log_uniform(12, 1e2)
    root = spectrum.power(-1 / power, 0.0)[None]
    matrix = spectrum.power(1.0, 0.0)[None]
    assert iteration.residual(matrix, root, power) < 1e-12
    assert iteration.residual(matrix, 1.1 * root, power).item() == pytest.approx(1.1**power - 1)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 2, 3, 4, 5, 8]),
    st.integers(1, 20),
    st.floats(-3, -0.1),
    st.integers(0, 10**6),
)
def test_the_iteration_is_that_of_its_twin(power, size, exponent, seed):
    generator = np.random.default_rng(seed)
    lowest = 10**exponent
    values = np.append(generator.uniform(lowest, 1, size - 1), 1.0)
    vectors = np.linalg.qr(generator.standard_normal((size, size)))[0]
    matrix = (vectors * values) @ vectors.T
    exact = (vectors * values ** (-1 / power)) @ vectors.T
    for dtype, tolerance, limit in ((torch.float64, 1e-14, 1e-10), (torch.float32, 1e-7, 3e-4)):
        steps = minimax.steps(power, lowest, tolerance)
        given_matrix = torch.from_numpy(matrix).to(dtype)
        twin = reference_roots.inverse_root(given_matrix.numpy(), power, steps)
        root = iteration.inverse_root(given_matrix[None], power, steps)[0].numpy()
        for expected in (twin, exact):
            np.testing.assert_allclose(root, expected, rtol=0, atol=limit * np.abs(exact).max())


@pytest.mark.parametrize("power", [1, 2, 3, 4, 6])
def test_products_are_as_many_as_planned(power):
    steps = minimax.steps(power, 1e-6, 1e-7)
    with Operators() as operators:
        iteration.inverse_root(torch.eye(4)[None], power, steps)
    counts = operators.counts
    assert counts["bmm"] + counts["baddbmm"] == minimax.products(power, steps)
