"""What is not finite or cannot be trusted leaves things as they were, and is counted."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from submission.shampoo_jax import scale_by_shampoo, shampoo
from submission.shampoo_jax.roots import inverse_root
from tests.submission.shampoo_jax.streams import stepping

PARAMS = {"a": jnp.ones((4, 3)), "b": jnp.ones(5)}
GRADS = {"a": jnp.arange(12.0).reshape(4, 3), "b": jnp.arange(5.0)}


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_gradient_that_is_not_finite_changes_nothing_but_counters(bad):
    """Nor does the schedule move; squares of 1e30 leave the range of float32."""
    optimizer = shampoo(optax.linear_schedule(0.1, 0.0, 4), weight_decay=0.5)
    step = stepping(optimizer)
    params, state = step(PARAMS, optimizer.init(PARAMS), GRADS)
    spoilt = {**GRADS, "b": GRADS["b"].at[2].set(bad)}
    same, after = step(params, state, spoilt)
    assert all(map(np.array_equal, leaves(same), leaves(params)))
    assert (after.calls, after.skipped, after.count) == (2, 1, 1)
    kept = after._replace(calls=state.calls, skipped=state.skipped)
    assert all(map(np.array_equal, leaves(kept), leaves(state)))
    moved, _ = step(same, after, GRADS)
    expected, _ = step(params, state._replace(calls=after.calls), GRADS)
    assert all(map(np.array_equal, leaves(moved), leaves(expected)))


def test_the_direction_alone_is_zero_then():
    transformation = scale_by_shampoo()
    spoilt = {**GRADS, "a": GRADS["a"].at[0, 0].set(np.nan)}
    updates, state = jax.jit(transformation.update)(spoilt, transformation.init(PARAMS))
    assert not any(leaf.any() for leaf in leaves(updates))
    assert state.skipped == 1


def test_a_root_that_cannot_be_trusted_keeps_its_predecessor():
    optimizer = shampoo(0.1, block_size=2, refresh="together", refresh_interval=1)
    params = {"a": jnp.ones((4, 2))}
    grads = {"a": jnp.arange(8.0).reshape(4, 2)}
    step = stepping(optimizer)
    params, state = step(params, optimizer.init(params), grads)
    old = state.stacks["2x2"]
    stacks = {"2x2": {**old, "left": old["left"].at[0, 1, 0, 0].set(np.nan)}}
    params, after = step(params, state._replace(stacks=stacks), {"a": grads["a"] + 1})
    new = after.stacks["2x2"]
    assert np.array_equal(new["left_root"][0, 1], old["left_root"][0, 1])
    assert not np.array_equal(new["left_root"][0, 0], old["left_root"][0, 0])
    assert new["left_failures"].tolist() == [[0, 1]]
    assert new["right_failures"].tolist() == [[0, 0]]
    assert np.isfinite(params["a"]).all()


def test_gradients_of_zero_and_of_all_scales_give_finite_steps():
    optimizer = shampoo(0.1)
    step = stepping(optimizer)
    params, state = PARAMS, optimizer.init(PARAMS)
    for scale in (0.0, 1e-30, 1e15, 1.0):
        grads = jax.tree.map(lambda grad, scale=scale: grad * scale, GRADS)
        params, state = step(params, state, grads)
        assert all(np.isfinite(leaf).all() for leaf in leaves(params))
    assert state.skipped == 0


def test_roots_are_checked():
    matrix = jnp.diag(jnp.array([4.0, 1.0, 0.25]))
    half = jax.jit(lambda matrix: inverse_root(matrix, 0.5, 0.0))
    root, trusted = half(matrix)
    np.testing.assert_allclose(root, np.diag([0.5, 1.0, 2.0]), atol=1e-6)
    assert trusted
    assert not half(matrix.at[0, 1].set(jnp.nan))[1]
    assert not half(matrix.at[2, 0].set(jnp.inf))[1]
    assert np.array_equal(half(jnp.zeros((3, 3)))[0], np.eye(3))


def test_a_tree_without_matrices_takes_adamws_step():
    optimizer = shampoo(0.1)
    params = {"bias": jnp.ones(3)}
    after, state = stepping(optimizer)(params, optimizer.init(params), {"bias": jnp.ones(3)})
    assert state.stacks == {}
    assert np.allclose(after["bias"], 0.9)
