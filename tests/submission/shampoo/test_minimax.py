"""The polynomials behind roots by products: optimal, as exact as asked, and few."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from submission.plan import minimax

POWERS = (1, 2, 3, 4, 6, 8)
DAMPINGS = (1e-3, 1e-4, 1e-5, 1e-6)


@pytest.mark.parametrize(
    ("power", "low", "high"), [*itertools.product(POWERS, [0.03, 0.5], [1.0, 1.2]), (4, 0.97, 1.03)]
)
def test_the_error_of_a_step_alternates_at_four_points(power, low, high):
    """By Chebyshev's theorem no quadratic h then has a smaller one."""
    coefficients, error = minimax.closest_to_one(power, low, high)
    x = np.linspace(low, high, 20001)
    signed = 1 - x * np.polynomial.polynomial.polyval(x**power, coefficients)
    assert np.abs(signed).max() == pytest.approx(error, rel=1e-5)
    extreme = signed[np.abs(signed) > (1 - 1e-5) * error]
    assert 1 + np.count_nonzero(np.diff(np.sign(extreme))) == 4


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.floats(-7, -0.1), st.sampled_from([1e-3, 1e-7, 1e-14]))
def test_steps_take_every_eigenvalue_to_its_root(power, exponent, tolerance):
    lowest = 10**exponent
    steps = minimax.steps(power, lowest, tolerance)
    for value in np.geomspace(lowest, 1, 500):
        relative = minimax.apply(power, steps, value) * value ** (1 / power)
        assert relative == pytest.approx(1, abs=1.5 * tolerance + 1e-13)


@pytest.mark.parametrize(("power", "damping"), [*itertools.product(POWERS, DAMPINGS)])
def test_what_rounding_took_below_the_damping_errs_by_less_than_that(power, damping):
    steps = minimax.steps(power, damping, 1e-7)
    for share in (0.9, 0.5, 0.1):
        relative = minimax.apply(power, steps, share * damping) * (share * damping) ** (1 / power)
        assert share ** (1 / power) < relative < 1 + 1e-7


@pytest.mark.parametrize(
    ("power", "former"), [(4, {1e-4: 48, 1e-5: 54, 1e-6: 63}), (2, {1e-4: 30, 1e-5: 33, 1e-6: 39})]
)
def test_products_are_fewer_than_those_of_newton_denman_beavers(power, former):
    """Half of them for p = 4; the numbers are those of results/numerics/replaced.md."""
    for damping, count in former.items():
        products = minimax.products(power, minimax.steps(power, damping, 1e-7))
        assert products <= (0.56 if power == 4 else 0.8) * count


@pytest.mark.parametrize(("power", "damping"), [*itertools.product((1, 2, 3, 4), DAMPINGS)])
def test_a_larger_cushion_would_take_more_steps(power, damping):
    cushions = np.arange(minimax.LEAST_CUSHION, 1, (1 - minimax.LEAST_CUSHION) / 16)
    candidates = [minimax._steps(power, damping, 1e-7, cushion) for cushion in cushions]
    assert len(candidates[-1]) > len(candidates[0])
    *_, largest = [steps for steps in candidates if len(steps) == len(candidates[0])]
    for step, expected in zip(minimax.steps(power, damping, 1e-7), largest, strict=True):
        assert step.coefficients == pytest.approx(expected.coefficients)
