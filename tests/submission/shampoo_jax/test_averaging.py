"""What evaluation reads."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from submission.shampoo_jax import evaluated, shampoo

PARAMS = {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}


def test_averages_of_some_leaves_are_read_among_the_others():
    labels = {"kernel": "averaged", "bias": "plain"}
    averaged = shampoo(0.1, averaging="ema", averaging_decay=0.5)
    optimizer = optax.multi_transform({"averaged": averaged, "plain": shampoo(0.1)}, labels)
    updates, state = jax.jit(optimizer.update)(PARAMS, optimizer.init(PARAMS), PARAMS)
    params = optax.apply_updates(PARAMS, updates)
    read = evaluated(state, params)
    assert np.array_equal(read["bias"], params["bias"])
    np.testing.assert_allclose(read["kernel"], (PARAMS["kernel"] + params["kernel"]) / 2, 1e-6)


@pytest.mark.parametrize("averaging", ["ema", "schedule_free"])
def test_a_skipped_step_leaves_averages_alone(averaging):
    optimizer = shampoo(0.1, averaging=averaging, weight_decay=0.1)
    update, state = jax.jit(optimizer.update), optimizer.init(PARAMS)
    updates, state = update(PARAMS, state, PARAMS)
    params = optax.apply_updates(PARAMS, updates)
    spoilt = {**PARAMS, "bias": PARAMS["bias"].at[0].set(jnp.inf)}
    updates, after = update(spoilt, state, params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates))
    pairs = zip(jax.tree.leaves(state.average), jax.tree.leaves(after.average), strict=True)
    assert all(np.array_equal(old, new) for old, new in pairs)


@pytest.mark.parametrize("averaging", ["ema", "schedule_free"])
def test_averages_are_of_the_weights(averaging):
    state = shampoo(0.1, averaging=averaging).init(PARAMS)
    for params, given in (
        ({"bias": PARAMS["bias"]}, "'nothing'"),
        ({**PARAMS, "kernel": jnp.ones((1, 3))}, r"\[1, 3\]"),
    ):
        message = rf"^params must be of the shape .* \[4, 3\] at 'kernel', got {given}"
        with pytest.raises(ValueError, match=message):
            evaluated(state, params)


def test_averages_of_several_models_are_read_under_vmap():
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), PARAMS)
    state = jax.vmap(shampoo(0.1, averaging="schedule_free").init)(many)
    read = jax.vmap(evaluated)(state, many)
    assert np.array_equal(read["kernel"], many["kernel"])
    with pytest.raises(ValueError, match=r"^state must be of one model.* jax.vmap .* got \(3,\)"):
        evaluated(state, many)


def test_without_averaging_the_weights_are_read():
    read = evaluated(shampoo(0.1).init(PARAMS), PARAMS)
    assert all(read[name] is PARAMS[name] for name in PARAMS)
    with pytest.raises(ValueError, match=r"^state must be"):
        evaluated(optax.sgd(0.1).init(PARAMS), PARAMS)
