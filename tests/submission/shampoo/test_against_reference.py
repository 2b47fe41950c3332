"""The optimizer takes the steps of the reference, over random shapes and options."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from submission.plan.options import MATRIX_DIMS
from submission.plan.reference import ReferenceGroup
from submission.shampoo import Shampoo, ShampooConfig
from tests.submission.shampoo.test_reference import BASE, STEPS, draw


def common_options(**more):
    return {
        "block_size": st.integers(2, 9),
        "matrix_dims": st.sampled_from(MATRIX_DIMS),
        "table_aspect": st.sampled_from([1.0, 3.0]),
        "refresh_interval": st.integers(1, 5),
        "refresh": st.sampled_from(["together", "staggered"]),
        "nesterov": st.booleans(),
        "momentum": st.sampled_from([0.0, 0.0, 0.7]),
        "decay_mode": st.sampled_from(["decoupled", "l2", "independent"]),
        "weight_decay": st.sampled_from([0.0, 0.1]),
        "betas": st.sampled_from([(0.9, 0.99), (0.0, 0.9), (0.95, 0.5)]),
        "averaging": st.sampled_from([None, "ema", "schedule_free"]),
        "averaging_share": st.sampled_from([0.1, 0.5]),
        "averaging_decay": st.sampled_from([None, 0.8]),
        "averaging_beta": st.sampled_from([0.9, 0.5]),
        "overlap": st.booleans(),
        **more,
    }


SHAMPOO = st.fixed_dictionaries(
    common_options(
        grafting=st.sampled_from(["auto", "sgd", "adagrad", "rmsprop", "adam", None]),
        exponent=st.sampled_from(["auto", None, 0.25, 0.5, 1 / 3]),
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
ONE_SIDED = {"max_dim": 2, "table_aspect": 1.0, "oversize": "one_sided"}
SPOILT = st.sets(st.integers(0, STEPS - 1), max_size=3)
MISSING = st.sets(st.tuples(st.integers(0, STEPS - 1), st.integers(0, 3)), max_size=8)


def errors(shapes, options, seed, spoilt=(), missing=(), changes=None, scales=(1,) * STEPS):
    """How far optimizers in float64 and float32 end up from the reference, as a part of the way.

    Over one stream of gradients, of the given scales, and learning rates; `spoilt` steps have a
    NaN, (step, parameter) pairs in `missing` no gradient, and `changes` are options from a step on.
    The largest of the differences in training, in evaluation, and in training again.
    """
    options = {**BASE, **options}
    start = draw(shapes, seed)
    reference = ReferenceGroup(start, ShampooConfig(**options))
    weights = [
        [torch.nn.Parameter(torch.from_numpy(value).to(dtype)) for value in start]
        for dtype in (torch.float64, torch.float32)
    ]
    optimizers = [Shampoo(members, **options) for members in weights]
    way = options["lr"]
    for step in range(STEPS):
        live = {"lr": options["lr"] * (1 - step / STEPS), **(changes or {}).get(step, {})}
        grads: list[np.ndarray | None] = list(draw(shapes, seed + step + 1))
        for grad in grads:
            grad *= scales[step]
        if step in spoilt:
            grads[-1].flat[0] = np.nan
        for number in range(len(shapes)):
            if (step, number) in missing:
                grads[number] = None
        reference.config = dataclasses.replace(reference.config, **live)
        reference.step(grads)
        for optimizer, members in zip(optimizers, weights, strict=True):
            optimizer.param_groups[0].update(live)
            for weight, grad in zip(members, grads, strict=True):
                weight.grad = None if grad is None else torch.from_numpy(grad).to(weight.dtype)
            optimizer.step()
        way = max(way, distance([parameter.weight for parameter in reference.parameters], start))
    largest = []
    for optimizer, members in zip(optimizers, weights, strict=True):
        training = [parameter.weight for parameter in reference.parameters]
        differences = [distance(members, training)]
        optimizer.eval()
        differences.append(
            distance(members, [parameter.evaluated() for parameter in reference.parameters])
        )
        optimizer.train()
        differences.append(distance(members, training))
        largest.append(max(differences) / way)
    return largest


def distance(weights, expected):
    return max(
        float(np.abs(torch.as_tensor(a).detach().double().numpy() - b).max())
        for a, b in zip(weights, expected, strict=True)
    )


@settings(deadline=None, max_examples=30)
@given(SHAPES, SHAMPOO, st.integers(0, 10**6), SPOILT, MISSING)
# A parameter without a gradient as yet has its place in the staggered order.
@example([(2, 2), (2, 3)], {"refresh_interval": 2, **ONE_SIDED}, 0, set(), {(0, 0), (1, 0)})
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
    on that side alone; so two gradients are enough.
    """
    double, single = errors(shapes, options, seed, spoilt, missing)
    assert double <= 1e-10
    assert single <= 1e-2


@pytest.mark.parametrize("solver", ["eigh", "products"])
@pytest.mark.parametrize("exponent", [0.25, 0.5])
def test_root_solvers_agree_with_the_reference(solver, exponent):
    options = {"root_solver": solver, "exponent": exponent, "refresh_interval": 2}
    double, single = errors([(7, 5), (6, 6), (9, 2)], options, seed=0)
    assert double <= 1e-10
    assert single <= 1e-3


@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_a_first_gradient_that_is_not_finite_delays_the_factors(method):
    options = {"method": method, "refresh_interval": 5}
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
        {"nesterov": True},
        {"momentum": 0.5},
        {"refresh_interval": 2},
        {"refresh": "together"},
        {"overlap": True},
        {"averaging_decay": 0.5},
        {"averaging_share": 0.5},
        {"averaging_beta": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_options_are_read_at_every_step(change, method):
    averaging = "schedule_free" if "averaging_beta" in change else "ema"
    options = {"method": method, "averaging": averaging, "refresh_interval": 3, "block_size": 3}
    assert errors([(6, 6), (4,)], options, seed=0, changes={4: change})[0] <= 1e-10
