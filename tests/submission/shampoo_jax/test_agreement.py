"""Gradients, parameters, options and state that do not agree are refused by path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from submission.shampoo_jax import scale_by_shampoo, shampoo

PARAMS = {"dense": {"kernel": jnp.ones((8, 8)), "bias": jnp.ones(3)}}


def traced(optimizer, updates, state, params=PARAMS):
    return jax.eval_shape(optimizer.update, updates, state, params)


@pytest.mark.parametrize("make", [lambda: shampoo(0.1), scale_by_shampoo])
@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ({"dense": {"kernel": jnp.ones((8, 8)), "bias": None}}, "got none at 'dense/bias'"),
        ({"dense": {"kernel": jnp.ones((4, 16)), "bias": jnp.ones(3)}}, r"\(8, 8\) at 'dense/kern"),
        ({"dense": {"kernel": jnp.ones((8, 8)), "bias": jnp.ones(1)}}, r"shape \(3,\) at 'dense/b"),
        ({**PARAMS, "other": jnp.ones(3)}, "be a tree like params, PyTreeDef"),
    ],
)
def test_gradients_are_of_the_parameters_tree_and_shapes(make, updates, message):
    optimizer = make()
    with pytest.raises(ValueError, match=f"^updates must .*{message}"):
        traced(optimizer, updates, optimizer.init(PARAMS))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({}, {"averaging": "ema"}, r"float32\[3\] at 'average/average/dense/bias', got nothing"),
        ({"averaging": "ema"}, {}, r"nothing at 'average/average/dense/bias', got float32\[3\]"),
        ({"averaging": "ema"}, {"averaging": "schedule_free"}, "'average/z/dense/bias', got noth"),
        ({}, {"decay_mode": "independent"}, "'peak_rate', got nothing"),
        ({}, {"block_size": 4}, "'stacks/4x4/first', got nothing"),
        ({}, {"method": "soap"}, "'stacks/8x8/basis_second', got nothing"),
        ({}, {"momentum": 0.5}, "'stacks/8x8/velocity', got nothing"),
        ({}, {"factor_dtype": "bfloat16"}, r"bfloat16\[.*'stacks/8x8/left', got float32\["),
    ],
)
def test_state_is_of_the_options(before, after, message):
    state = shampoo(0.1, **before).init(PARAMS)
    with pytest.raises(ValueError, match=rf"^state must be of these params and .*{message}"):
        traced(shampoo(0.1, **after), PARAMS, state)


def test_state_is_of_the_parameters():
    optimizer = shampoo(0.1)
    others = {"dense": {"kernel": jnp.ones((8, 8)), "bias": jnp.ones(1)}}
    with pytest.raises(ValueError, match=r"float32\[3\] at 'leaves/0/first', got float32\[1\]"):
        traced(optimizer, PARAMS, optimizer.init(others))
    with pytest.raises(ValueError, match=r"^state must be a ShampooState, as init .*got 'dict'"):
        traced(optimizer, PARAMS, optimizer.init(PARAMS)._asdict())


def test_lanes_of_a_state_are_those_of_the_options():
    """With other lanes factors would be taken for those of other blocks."""
    state = shampoo(0.1, block_size=4, lanes=2).init(PARAMS)
    with pytest.raises(ValueError, match=r"^lanes must be 2, the first dimension of .* got 1"):
        traced(shampoo(0.1, block_size=4), PARAMS, state)


def test_options_without_state_may_change():
    state = shampoo(0.1, refresh_interval=3).init(PARAMS)
    changed = shampoo(0.2, 0.8, refresh_interval=5, exponent=0.25, weight_decay=0.1, damping=0.1)
    _, after = traced(changed, PARAMS, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_leaves_of_numbers_and_of_numpy_are_parameters():
    optimizer = shampoo(0.1)
    params = {"scale": 1.0, "bias": np.ones(2)}
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_allclose(updates["scale"], -0.1, rtol=1e-6)
    assert updates["bias"].shape == (2,)


@pytest.mark.parametrize(
    ("leaf", "given"),
    [
        ("relu", "<class 'str'>"),
        (lambda x: x, "<class 'function'>"),
        (jnp.ones(3, jnp.float8_e4m3fn), "float8_e4m3fn"),
    ],
)
def test_leaves_of_other_kinds_are_refused_by_path(leaf, given):
    with pytest.raises(ValueError, match=rf"^parameters must .*got {given} at 'net/act'"):
        shampoo(0.1).init({"net": {"act": leaf}})
