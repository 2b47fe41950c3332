"""The reference against the papers' identities, and the optimizer against the reference."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from submission.plan.blocking import plan_parameter
from submission.plan.reference import ReferenceGroup, cut, due_refreshes
from submission.shampoo import Shampoo, ShampooConfig

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
@pytest.mark.parametrize("scope", ["block", "layer"])
def test_grafted_steps_are_as_long_as_the_diagonal_methods(grafting, scope):
    options = {"grafting": grafting, "block_size": 4, "grafting_scope": scope}
    grads = draw([(6, 5)] * 3, 2)
    grafted = displacement(group([(6, 5)], **options), grads)
    diagonal = displacement(group([(6, 5)], **options, max_dim=2), grads)
    blocks = [np.s_[:, :3, :3], np.s_[:, 3:, :3], np.s_[:, :3, 3:], np.s_[:, 3:, 3:]]
    for at in blocks if scope == "block" else [np.s_[:]]:
        lengths = [np.linalg.norm(each[at], axis=(1, 2)) for each in (grafted, diagonal)]
        np.testing.assert_allclose(*lengths, rtol=1e-10)


@pytest.mark.parametrize(
    ("grafting", "theirs"),
    [
        ("sgd", lambda weights: torch.optim.SGD(weights, lr=0.01)),
        ("adagrad", lambda weights: torch.optim.Adagrad(weights, lr=0.01, eps=1e-8)),
        ("rmsprop", lambda weights: torch.optim.RMSprop(weights, lr=0.01, alpha=0.9)),
        ("adam", lambda weights: torch.optim.Adam(weights, lr=0.01, betas=(0.0, 0.9))),
    ],
)
def test_diagonal_methods_are_torchs(grafting, theirs):
    parameter = torch.zeros(6, 5, dtype=torch.float64, requires_grad=True)
    optimizer = theirs([parameter])
    grads = draw([(6, 5)] * 3, 2)
    for grad in grads:
        parameter.grad = torch.from_numpy(grad)
        optimizer.step()
    ours = group([(6, 5)], grafting=grafting, max_dim=2, betas=(0.0, 0.9))
    moved = displacement(ours, grads).sum(0)
    np.testing.assert_allclose(moved, parameter.detach().numpy(), rtol=1e-9)


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
            blocks = [each.parameters[0].blocks[0] for each in (turning, fixed)]
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
    found = np.kron(factors[1], factors[0])
    true = np.kron(right @ right.T, left @ left.T)
    assert np.linalg.norm(found - true) < 0.15 * np.linalg.norm(true)
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


def test_decay_modes():
    grads = [np.zeros((3, 3))] * 3
    for lr, mode, factor in (
        (0.1, "decoupled", 1 - 0.1 * 0.2),
        (0.1, "independent", 1 - 0.2),
        (0.0, "independent", 1.0),
    ):
        reference = group([(3, 3)], lr=lr, weight_decay=0.2, decay_mode=mode)
        start = reference.parameters[0].weight
        displacement(reference, grads)
        np.testing.assert_allclose(reference.parameters[0].weight, start * factor**3)
    options = {"grafting": "sgd", "max_dim": 2, "betas": (0.0, 0.9), "lr": 0.1}
    reference = group([(3, 3)], weight_decay=0.2, decay_mode="l2", **options)
    start = reference.parameters[0].weight
    displacement(reference, grads)
    np.testing.assert_allclose(reference.parameters[0].weight, start * (1 - 0.1 * 0.2) ** 3)


def test_schedule_frees_average_is_the_mean_of_its_fast_iterates():
    """x of Defazio et al. 2024, equations 3 to 5, with a constant learning rate."""
    reference = group([(3, 3)], averaging="schedule_free", averaging_beta=0.8, weight_decay=0.1)
    parameter = reference.parameters[0]
    fast = []
    for grad in draw([(3, 3)] * 6, 7):
        reference.step([grad])
        fast.append(parameter.average)
        np.testing.assert_allclose(parameter.evaluated(), np.mean(fast, axis=0), atol=1e-12)
        mixed = 0.2 * parameter.average + 0.8 * parameter.evaluated()
        np.testing.assert_allclose(parameter.weight, mixed, atol=1e-12)


def test_heavy_ball_and_nesterov_momentum():
    grads = draw([(3, 3)] * 4, 8)
    options = {"grafting": "sgd", "max_dim": 2, "betas": (0.0, 0.9), "lr": 0.1, "momentum": 0.9}
    for nesterov in (False, True):
        parameter = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
        theirs = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, nesterov=nesterov)
        for grad in grads:
            parameter.grad = torch.from_numpy(grad)
            theirs.step()
        moved = displacement(group([(3, 3)], nesterov=nesterov, **options), grads).sum(0)
        np.testing.assert_allclose(moved, parameter.detach().numpy(), rtol=1e-10)


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(2, 20), st.integers(2, 20)), min_size=1))
def test_staggered_turns_come_once_an_interval_and_cost_about_the_same(interval, shapes):
    options = {"refresh_interval": interval, "block_size": 7, "refresh": "staggered"}
    parameters = group(shapes, **options).parameters
    turns = [due_refreshes(parameters, 5 * interval + phase) for phase in range(interval)]
    counted = [pair for turn in turns for number, due in enumerate(turn) for pair in due]
    assert len(counted) == sum(len(p.blocks) * 2 for p in parameters)
    costs = [
        sum(
            parameters[number].blocks[index].key[side] ** 3
            for number, due in enumerate(turn)
            for index, side in due
        )
        for turn in turns
    ]
    assert max(costs) <= sum(costs) / interval + 7**3
    if interval > 4:
        assert due_refreshes(parameters, 4) == [
            {(index, side) for index in range(len(p.blocks)) for side in (0, 1)} for p in parameters
        ]


# The optimizer against it.


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(1, 1500), max_size=3).map(tuple),
    st.builds(
        ShampooConfig,
        block_size=st.integers(2, 1100),
        block_aspect=st.sampled_from([1.0, 1.5, 2.7, 100.0]),
        max_dim=st.integers(2, 3000),
        oversize=st.sampled_from(["diagonal", "one_sided"]),
        max_aspect=st.sampled_from([1.0, 2.0, 16.0, 100.0]),
    ),
)
def test_parameters_are_cut_into_the_same_blocks(shape, config):
    plan = plan_parameter(shape, config)
    expected = cut(shape, config)
    if not any(left or right for _, _, left, right in expected):
        assert plan.reason
        return
    assert not plan.reason
    found = [
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
    assert sorted(found, key=order) == sorted(expected, key=order)


def common_options(**more):
    return {
        "block_size": st.integers(2, 9),
        "refresh_interval": st.integers(1, 5),
        "refresh": st.sampled_from(["together", "staggered"]),
        "factor_interval": st.sampled_from([1, 1, 3]),
        "grafting_scope": st.sampled_from(["block", "layer"]),
        "nesterov": st.booleans(),
        "momentum": st.sampled_from([0.0, 0.0, 0.7]),
        "decay_mode": st.sampled_from(["decoupled", "l2", "independent"]),
        "weight_decay": st.sampled_from([0.0, 0.1]),
        "betas": st.sampled_from([(0.9, 0.99), (0.0, 0.9), (0.95, 0.5)]),
        "averaging": st.sampled_from([None, "ema", "schedule_free"]),
        "averaging_decay": st.just(0.8),
        "averaging_beta": st.sampled_from([0.9, 0.5]),
        "overlap": st.booleans(),
        **more,
    }


SHAMPOO = st.fixed_dictionaries(
    common_options(
        grafting=st.sampled_from(["auto", "sgd", "adagrad", "rmsprop", "adam", None]),
        exponent=st.sampled_from([None, 0.25, 0.5, 1 / 3]),
        max_dim=st.integers(2, 80),
        oversize=st.sampled_from(["diagonal", "one_sided"]),
        max_aspect=st.sampled_from([1.0, 2.0, 16.0]),
    )
)
BASES = st.fixed_dictionaries(
    common_options(
        method=st.sampled_from(["soap", "kl_shampoo"]),
        grafting=st.sampled_from(["auto", "auto", "sgd", "rmsprop", "adam"]),
        max_dim=st.integers(2, 80),
        oversize=st.sampled_from(["diagonal", "one_sided"]),
        max_aspect=st.sampled_from([1.0, 2.0]),
        basis_solver=st.just("eigh"),
    )
)
SHAPE = st.lists(st.integers(1, 13), max_size=2) | st.lists(
    st.integers(1, 4), min_size=3, max_size=4
)
SHAPES = st.lists(SHAPE.map(tuple), min_size=1, max_size=4)
SPOILT = st.sets(st.integers(0, STEPS - 1), max_size=3)
MISSING = st.sets(st.tuples(st.integers(0, STEPS - 1), st.integers(0, 3)), max_size=8)


def errors(shapes, options, seed, spoilt=(), missing=(), changes=None):
    """How far optimizers in float64 and float32 end up from the reference, as a part of the way.

    Over one stream of gradients and learning rates; `spoilt` steps have a NaN, (step, parameter)
    pairs in `missing` no gradient, and `changes` are options from a step on. The largest of the
    differences in training, in evaluation, and in training again.
    """
    options = {**BASE, **options}
    start = draw(shapes, seed)
    reference = ReferenceGroup(start, ShampooConfig(**options))
    weights = [
        [torch.nn.Parameter(torch.from_numpy(each).to(dtype)) for each in start]
        for dtype in (torch.float64, torch.float32)
    ]
    optimizers = [Shampoo(each, **options) for each in weights]
    way = options["lr"]
    for step in range(STEPS):
        live = {"lr": options["lr"] * (1 - step / STEPS), **(changes or {}).get(step, {})}
        grads: list[np.ndarray | None] = list(draw(shapes, seed + step + 1))
        if step in spoilt:
            grads[-1].flat[0] = np.nan
        for number in range(len(shapes)):
            if (step, number) in missing:
                grads[number] = None
        reference.config = dataclasses.replace(reference.config, **live)
        reference.step(grads)
        for optimizer, own in zip(optimizers, weights, strict=True):
            optimizer.param_groups[0].update(live)
            for weight, grad in zip(own, grads, strict=True):
                weight.grad = None if grad is None else torch.from_numpy(grad).to(weight.dtype)
            optimizer.step()
        way = max(way, distance([each.weight for each in reference.parameters], start))
    found = []
    for optimizer, own in zip(optimizers, weights, strict=True):
        training = [each.weight for each in reference.parameters]
        differences = [distance(own, training)]
        optimizer.eval()
        differences.append(distance(own, [each.evaluated() for each in reference.parameters]))
        optimizer.train()
        differences.append(distance(own, training))
        found.append(max(differences) / way)
    return found


def distance(weights, others):
    return max(
        float(np.abs(torch.as_tensor(a).detach().double().numpy() - b).max())
        for a, b in zip(weights, others, strict=True)
    )


@settings(deadline=None, max_examples=30)
@given(SHAPES, SHAMPOO, st.integers(0, 10**6), SPOILT, MISSING)
def test_shampoo_agrees_with_the_reference(shapes, options, seed, spoilt, missing):
    double, single = errors(shapes, options, seed, spoilt, missing)
    assert double <= 1e-10
    assert single <= 1e-2


@settings(deadline=None, max_examples=30)
@given(SHAPES, BASES, st.integers(0, 10**6), SPOILT, MISSING)
def test_soap_and_kl_shampoo_agree_with_the_reference(shapes, options, seed, spoilt, missing):
    """Where the bases are determined: at a refresh, no factor may be of less than full rank.

    Eigenvectors of a multiple eigenvalue are any basis of its space, and second moments expressed
    anew are as arbitrary. No block here is longer than twice its short side, or it has a factor
    on that side alone; so two gradients are enough, and one is for square blocks.
    """
    areas = [area for shape in shapes for area in cut(shape, ShampooConfig(**options))]
    if any(
        left and right and rows.stop - rows.start != columns.stop - columns.start
        for rows, columns, left, right in areas
    ):
        options = {**options, "factor_interval": 1}
    double, single = errors(shapes, options, seed, spoilt, missing)
    assert double <= 1e-10
    assert single <= 1e-2


@pytest.mark.parametrize("solver", ["eigh", "coupled_newton", "newton_denman_beavers"])
@pytest.mark.parametrize("exponent", [0.25, 0.5])
def test_root_solvers_agree_with_the_reference(solver, exponent):
    options = {"root_solver": solver, "exponent": exponent, "refresh_interval": 2}
    double, single = errors([(7, 5), (6, 6), (9, 2)], options, seed=0)
    assert double <= 1e-10
    assert single <= 1e-3


@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_a_first_gradient_that_is_not_finite_delays_the_factors(method):
    """Factors then begin at the next multiple of their interval, after the early refreshes."""
    options = {"method": method, "factor_interval": 6, "refresh_interval": 5}
    assert errors([(4, 4)], options, seed=0, spoilt={0})[0] <= 1e-10
    assert errors([(4, 4)], {**options, "overlap": True}, seed=0, spoilt={0})[0] <= 1e-10


@pytest.mark.parametrize(
    "change",
    [
        {"betas": (0.5, 0.6)},
        {"eps": 0.1},
        {"damping": 0.1},
        {"weight_decay": 0.5},
        {"decay_mode": "l2"},
        {"decay_mode": "independent"},
        {"grafting_scope": "layer"},
        {"nesterov": True},
        {"momentum": 0.5},
        {"refresh_interval": 2},
        {"refresh": "together"},
        {"factor_interval": 2},
        {"overlap": True},
        {"averaging_decay": 0.5},
        {"averaging_beta": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_options_are_read_at_every_step(change, method):
    averaging = "schedule_free" if "averaging_beta" in change else "ema"
    options = {"method": method, "averaging": averaging, "refresh_interval": 3, "block_size": 3}
    assert errors([(6, 6), (4,)], options, seed=0, changes={4: change})[0] <= 1e-10
