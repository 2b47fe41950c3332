"""What users of optax and of flax expect of a transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from submission.shampoo_jax import scale_by_shampoo, shampoo, static_arguments
from tests.submission.shampoo_jax.streams import double_precision

PARAMS = {"dense": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}}


def test_state_is_arrays_under_string_keys_and_keeps_its_structure():
    optimizer = shampoo(0.1, momentum=0.5)
    state = optimizer.init(PARAMS)
    _, after = jax.jit(optimizer.update)(PARAMS, state, PARAMS)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert isinstance(old, jax.Array)
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
    keys = [key for path, _ in jax.tree.leaves_with_path(state) for key in path]
    assert all(isinstance(key.key, str) for key in keys if hasattr(key, "key"))
    assert optax.tree_utils.tree_get(after, "count") == 1


def test_tree_map_params_is_refused_since_stacks_are_no_trees_of_parameters():
    """As docs/jax.md says, where `state_shardings` and `jax.tree.map` take its place."""
    optimizer = shampoo(0.1)
    with pytest.raises(ValueError, match="4x3"):
        optax.tree_utils.tree_map_params(optimizer, jnp.shape, optimizer.init(PARAMS))


def test_a_step_compiles_once_and_its_state_can_be_donated():
    optimizer = shampoo(optax.constant_schedule(0.1), weight_decay=0.1)
    update = jax.jit(optimizer.update, donate_argnums=1)
    state = optimizer.init(PARAMS)
    for _ in range(3):
        _, state = update(PARAMS, state, PARAMS)
    assert update._cache_size() == 1
    assert state.count == 3


def test_short_parameters_get_short_updates_from_exact_state():
    params = {"kernel": jnp.ones((4, 3), jnp.bfloat16)}
    optimizer = shampoo(0.1)
    updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    assert updates["kernel"].dtype == jnp.bfloat16
    assert state.stacks["4x3"]["left"].dtype == jnp.float32


def test_longer_numbers_than_the_state_do_not_lengthen_it():
    """With x64 a schedule and injected numbers are in float64."""
    with double_precision():
        params = {"kernel": jnp.ones((4, 3), jnp.float32)}
        optimizer = optax.inject_hyperparams(shampoo, static_args=static_arguments(shampoo))(
            learning_rate=lambda count: 0.1 / (jnp.float64(1) + count),
            b1=jnp.float64(0.9),
            weight_decay=jnp.float64(0.1),
            averaging="schedule_free",
        )
        state = optimizer.init(params)
        updates, after = jax.jit(optimizer.update)(params, state, params)
    assert updates["kernel"].dtype == jnp.float32
    inner = jax.tree.map(lambda leaf: leaf.dtype, (state.inner_state, after.inner_state))
    assert inner[0] == inner[1]


def test_numbers_of_numpy_do_not_lengthen_it_either():
    with double_precision():
        params = {"kernel": jnp.ones((4, 3), jnp.float32)}
        for rate in (np.float64(0.1), lambda count: np.float64(0.1)):
            optimizer = shampoo(
                rate,
                np.float64(0.9),
                np.float32(0.99),
                weight_decay=np.float64(0.1),
                momentum=np.float64(0.5),
                averaging="ema",
            )
            state = optimizer.init(params)
            _, after = jax.eval_shape(optimizer.update, params, state, params)
            dtypes = jax.tree.map(lambda leaf: leaf.dtype, (state, after))
            assert dtypes[0] == dtypes[1]


def test_hyperparameters_can_be_injected():
    injected = optax.inject_hyperparams(shampoo, static_args=static_arguments(shampoo))(
        learning_rate=optax.linear_schedule(0.1, 0.0, 10), b1=0.8, weight_decay=0.1
    )
    plain = shampoo(0.1, b1=0.8, weight_decay=0.1)
    injected_updates, _ = jax.jit(injected.update)(PARAMS, injected.init(PARAMS), PARAMS)
    plain_updates, _ = jax.jit(plain.update)(PARAMS, plain.init(PARAMS), PARAMS)
    for left, right in zip(
        jax.tree.leaves(injected_updates), jax.tree.leaves(plain_updates), strict=True
    ):
        # Injected numbers are arguments and not constants, so a compiler rounds otherwise; the root
        # of a factor of rank one, as here, magnifies that: 6e-5 in float32, 1e-8 in float64.
        np.testing.assert_allclose(left, right, rtol=1e-4)


@pytest.mark.parametrize(
    "options", [{"decay_mode": "independent", "weight_decay": 0.1}, {"averaging": "schedule_free"}]
)
def test_state_has_no_array_of_the_hyperparameters(options):
    """Which could not be donated with it twice, or would be lost with it."""
    rate, params = jnp.float32(0.1), {"bias": jnp.ones(3)}
    injected = optax.inject_hyperparams(shampoo, static_args=static_arguments(shampoo))
    for optimizer in (injected(learning_rate=0.1, **options), shampoo(rate, **options)):
        update = jax.jit(optimizer.update, donate_argnums=1)
        _, state = update(params, optimizer.init(params), params)
        update(params, state, params)
    assert rate == np.float32(0.1)


def test_an_injected_structure_is_refused_with_the_remedy():
    injected = optax.inject_hyperparams(shampoo)(learning_rate=0.1)
    with pytest.raises(ValueError, match=r"^refresh_interval decides .*static_arguments"):
        injected.init(PARAMS)


def test_injected_betas_of_16_bits_are_refused():
    """What optax.inject_hyperparams makes of short parameters: 0.999 would be 1, and steps NaN."""
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    options = {"static_args": static_arguments(shampoo)}
    optimizer = optax.inject_hyperparams(shampoo, **options)(learning_rate=0.1)
    with pytest.raises(ValueError, match=r"^b1 must be of 32 bits .* hyperparam_dtype, got 'bfl"):
        optimizer.init(params)
    options["hyperparam_dtype"] = jnp.float32
    optimizer = optax.inject_hyperparams(shampoo, **options)(learning_rate=0.1)
    updates, _ = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))


def test_masks_and_groups_leave_the_other_leaves_out():
    labels = {"dense": {"kernel": "shampoo", "bias": "sgd"}}
    optimizer = optax.multi_transform({"shampoo": shampoo(0.1), "sgd": optax.sgd(0.1)}, labels)
    updates, state = jax.jit(optimizer.update)(PARAMS, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["dense"]["bias"], -0.1 * np.ones(3), rtol=1e-6)
    assert list(state.inner_states["shampoo"].inner_state.stacks) == ["4x3"]


def test_a_mask_says_what_decays():
    grads = jax.tree.map(jnp.zeros_like, PARAMS)
    for mask in (
        {"dense": {"kernel": True, "bias": False}},
        lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
    ):
        optimizer = shampoo(0.1, weight_decay=0.5, mask=mask)
        updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(PARAMS), PARAMS)
        np.testing.assert_allclose(updates["dense"]["kernel"], -0.05 * np.ones((4, 3)), rtol=1e-6)
        assert not updates["dense"]["bias"].any()


def test_works_in_chains_and_with_several_steps_per_update():
    chain = optax.MultiSteps(
        optax.chain(
            optax.clip_by_global_norm(1.0), scale_by_shampoo(), optax.scale_by_learning_rate(0.1)
        ),
        2,
    )
    update, state = jax.jit(chain.update), chain.init(PARAMS)
    updates, state = update(PARAMS, state, PARAMS)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates))
    updates, state = update(PARAMS, state, PARAMS)
    assert all(leaf.any() for leaf in jax.tree.leaves(updates))


OTHERS = [
    {"averaging": "schedule_free", "decay_mode": "independent", "momentum": 0.5},
    {"method": "soap", "basis_solver": "cholesky_qr", "averaging": "ema"},
    {"method": "kl_shampoo", "factor_dtype": "bfloat16", "basis_solver": "qr"},
    {"root_solver": "products", "grafting": "sgd", "decay_mode": "l2"},
]


@pytest.mark.parametrize("options", [{}, *OTHERS])
def test_no_rank_is_promoted(options):
    """Which JAX can be told to refuse."""
    optimizer = shampoo(0.1, weight_decay=0.1, damping=1e-3, **options)
    with jax.numpy_rank_promotion("raise"):
        state = jax.eval_shape(optimizer.init, PARAMS)
        jax.eval_shape(optimizer.update, PARAMS, state, PARAMS)


@pytest.mark.parametrize("options", [{}, *OTHERS])
def test_a_step_can_be_scanned(options):
    """No dtype or shape of the state changes, as no trace of it may."""
    optimizer = shampoo(optax.constant_schedule(0.1), weight_decay=0.1, damping=1e-3, **options)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(params, state, params)
        return (optax.apply_updates(params, updates), state), state.count

    def run(params):
        return jax.lax.scan(step, (params, optimizer.init(params)), None, length=2)

    assert jax.eval_shape(run, PARAMS)[1].shape == (2,)


def test_several_models_can_be_trained_at_once():
    optimizer = shampoo(0.1)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), PARAMS)
    state = jax.vmap(optimizer.init)(many)
    updates, _ = jax.jit(jax.vmap(optimizer.update))(many, state, many)
    alone, _ = jax.jit(optimizer.update)(PARAMS, optimizer.init(PARAMS), PARAMS)
    for left, right in zip(jax.tree.leaves(updates), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(left[0], right, rtol=1e-5, atol=1e-7)


def test_an_empty_tree_is_fine():
    optimizer = shampoo(0.1, weight_decay=0.1)
    updates, state = optimizer.update({}, optimizer.init({}), {})
    assert updates == {}
    assert state.count == 1


def test_needs_the_parameters_where_they_decay():
    optimizer = shampoo(0.1, weight_decay=0.1)
    with pytest.raises(ValueError, match="params"):
        optimizer.update(PARAMS, optimizer.init(PARAMS))
