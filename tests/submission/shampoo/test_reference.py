"""The reference against the papers' identities, and the optimizer against the reference."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from submission.plan.blocking import matrices_of, plan_parameter
from submission.plan.options import MATRIX_DIMS
from submission.plan.reference import ReferenceGroup
from submission.plan.reference_blocks import cut
from submission.shampoo import ShampooConfig

STEPS = 8
BASE = {"lr": 0.01, "betas": (0.9, 0.9), "damping": 1e-3, "weight_decay": 0.1}


def draw(shapes, seed):
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape) for shape in shapes]


def group(shapes, seed=0, **options):
    return ReferenceGroup(draw(shapes, seed), ShampooConfig(**{"lr": 0.01, **options}))


def orthogonal(size, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def displacement(reference, grads):
    """What each step adds to the first parameter."""
    path = [reference.parameters[0].weight]
    for grad in grads:
        reference.step([grad, *[None] * (len(reference.parameters) - 1)])
        path.append(reference.parameters[0].weight)
    return np.diff(path, axis=0)


# The reference itself.


@pytest.mark.parametrize(
    ("shape", "options"),
    [((5, 4), {}), ((4, 5), {"max_aspect": 1.0}), ((5, 4), {"max_aspect": 1.0})],
)
def test_shampoos_first_step_is_the_orthogonal_factor_of_the_gradient(shape, options):
    """L^(-1/4) G R^(-1/4), or L^(-1/2) G, of a single gradient: Gupta et al. 2018."""
    grad = draw([shape], 1)[0]
    reference = group([shape], grafting=None, damping=1e-14, **options)
    left, _, right = np.linalg.svd(grad, full_matrices=False)
    np.testing.assert_allclose(displacement(reference, [grad])[0], -0.01 * left @ right, atol=1e-9)


@pytest.mark.parametrize("grafting", ["sgd", "adagrad", "rmsprop", "adam"])
def test_grafted_steps_are_as_long_as_the_diagonal_methods(grafting):
    options = {"grafting": grafting, "block_size": 4}
    grads = draw([(6, 5)] * 3, 2)
    grafted = displacement(group([(6, 5)], **options), grads)
    diagonal = displacement(group([(6, 5)], **options, table=True), grads)
    blocks = [np.s_[:, :3, :3], np.s_[:, 3:, :3], np.s_[:, :3, 3:], np.s_[:, 3:, 3:]]
    for at in blocks:
        lengths = [np.linalg.norm(moved[at], axis=(1, 2)) for moved in (grafted, diagonal)]
        np.testing.assert_allclose(*lengths, rtol=1e-10)


def test_soap_is_adam_in_the_eigenbases():
    """A stream that shares its singular vectors becomes diagonal there: Adam's steps on scalars."""
    left, right = orthogonal(4, 0), orthogonal(4, 1)
    scales = np.array([4.0, 2.0, 1.0, 0.5])
    signs = np.random.default_rng(3).choice([-1.0, 1.0, 0.5], (12, 4))
    grads = [left @ np.diag(scales * sign) @ right.T for sign in signs]
    reference = group([(4, 4)], method="soap", betas=(0.0, 0.9), refresh_interval=1, eps=1e-12)
    moves = displacement(reference, grads)
    block = reference.parameters[0].blocks[0]
    rotated = np.abs(block.into_basis(moves[-1]))
    average = sum(0.9 ** (11 - t) * 0.1 * signs[t] ** 2 for t in range(12)) / (1 - 0.9**12)
    assert np.abs(rotated - np.diag(np.diag(rotated))).max() < 1e-3 * np.diag(rotated).max()
    # The gradient before the first basis counts in it up to what carrying squares spreads.
    np.testing.assert_allclose(np.diag(rotated), 0.01 * np.abs(signs[-1]) / average**0.5, rtol=0.2)


def test_a_change_of_basis_moves_the_first_moment_with_it():
    for method in ("soap", "kl_shampoo"):
        turning, fixed = (
            group([(4, 4)], method=method, refresh_interval=interval, betas=(0.9, 0.9))
            for interval in (1, 10**6)
        )
        for grad in draw([(4, 4)] * 6, 4):
            turning.step([grad])
            fixed.step([grad])
            blocks = [reference.parameters[0].blocks[0] for reference in (turning, fixed)]
            moments = [block.out_of_basis(block.first) for block in blocks]
            np.testing.assert_allclose(*moments, atol=1e-12)
            totals = [block.second.sum() for block in blocks]
            np.testing.assert_allclose(*totals, rtol=1e-12)


def test_kl_factors_of_a_matrix_gaussian_are_its_covariances():
    """G = A Z B^T has covariance (B B^T) (x) (A A^T): Lin et al. 2025, the fixed point."""
    generator = np.random.default_rng(5)
    left, right = generator.standard_normal((3, 3)), generator.standard_normal((4, 4))
    reference = group([(3, 4)], method="kl_shampoo", betas=(0.0, 0.999), refresh_interval=5)
    for _ in range(3000):
        reference.step([left @ generator.standard_normal((3, 4)) @ right.T])
    block = reference.parameters[0].blocks[0]
    factors = [side.factor / block.weight for side in block.sides]
    covariance = np.kron(factors[1], factors[0])
    true = np.kron(right @ right.T, left @ left.T)
    assert np.linalg.norm(covariance - true) < 0.15 * np.linalg.norm(true)
    for side, factor in zip(block.sides, factors, strict=True):
        np.testing.assert_allclose(np.sort(side.values), np.linalg.eigvalsh(factor), rtol=0.1)


@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
@pytest.mark.parametrize("options", [{}, {"max_aspect": 1.0}], ids=str)
@pytest.mark.parametrize("shape", [(4, 5), (5, 4)])
def test_the_gradients_scale_changes_the_step_only_where_the_method_says_so(method, options, shape):
    """Shampoo grafted on Adam, SOAP, and KL-Shampoo: not at all."""
    options = {"method": method, "eps": 1e-30, **options}
    grads = draw([shape] * 5, 6)
    small = displacement(group([shape], **options), [1e-6 * grad for grad in grads])
    large = displacement(group([shape], **options), [1e4 * grad for grad in grads])
    np.testing.assert_allclose(small, large, rtol=1e-6, atol=1e-9)


# The optimizer against it.


@settings(max_examples=200)
@given(
    st.lists(st.integers(1, 1500), max_size=2) | st.lists(st.integers(1, 20), max_size=4),
    st.integers(1, 3),
    st.builds(
        ShampooConfig,
        matrix_dims=st.sampled_from(MATRIX_DIMS),
        table=st.sampled_from(["auto", "auto", True, False]),
        table_aspect=st.sampled_from([1.0, 3.0, 8.0]),
        block_size=st.integers(2, 1100),
        block_aspect=st.sampled_from([1.0, 1.5, 2.7, 100.0]),
        max_dim=st.integers(2, 3000),
        oversize=st.sampled_from(["diagonal", "one_sided"]),
        max_aspect=st.sampled_from([1.0, 2.0, 16.0, 100.0]),
    ),
)
def test_parameters_are_cut_into_the_same_blocks(shape, parts, config):
    _, height, width = matrices_of(shape, config)
    if min(height, width) > 1 and height >= parts > 1:
        size = height // parts
        split = (*[size] * (parts - 1), height - size * (parts - 1))
        config = dataclasses.replace(config, split=split)
    plan = plan_parameter(shape, config)
    expected = cut(shape, config)
    if not any(left or right for _, _, left, right in expected):
        assert plan.reason
        return
    assert not plan.reason
    areas = [
        (
            slice(grid.row + i * grid.height, grid.row + (i + 1) * grid.height),
            slice(grid.column + j * grid.width, grid.column + (j + 1) * grid.width),
            *grid.sides,
        )
        for grid in plan.grids
        for i in range(grid.rows)
        for j in range(grid.columns)
    ]
    order = lambda area: (area[0].start, area[1].start)  # noqa: E731
    assert sorted(areas, key=order) == sorted(expected, key=order)
