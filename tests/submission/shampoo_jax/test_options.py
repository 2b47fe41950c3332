"""Bad arguments are refused where they are given, by name; geometry follows the rules."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from submission.plan.options import ShampooOptions
from submission.shampoo_jax import algoperf_winner, kl_shampoo, shampoo, soap, static_arguments
from submission.shampoo_jax.geometry import layout_of, matrices_of, stacked, unstacked
from submission.shampoo_jax.options import resolve
from submission.shampoo_jax.rounding import shortened


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", -1.0),
        ("learning_rate", "fast"),
        ("learning_rate", None),
        ("b1", 1.0),
        ("b2", -0.1),
        ("b1", (0.9, 0.99)),
        ("eps", 0.0),
        ("weight_decay", -1.0),
        ("damping", 2.0),
        ("method", "adam"),
        ("exponent", 0.0),
        ("refresh_interval", 0),
        ("refresh_interval", 1 << 31),
        ("refresh", "sometimes"),
        ("grafting", "lion"),
        ("nesterov", 1),
        ("momentum", 1.0),
        ("block_size", 1),
        ("max_dim", 0),
        ("matricize", 1),
        ("split", (3, 0)),
        ("basis_solver", "guess"),
        ("factor_dtype", "float16"),
        ("root_dtype", "short"),
        ("maximize", 1),
        ("batch_dims", -1),
        ("root_solver", "guess"),
        ("lanes", 0),
        ("decay_mode", "none"),
        ("averaging", "mean"),
        ("averaging_beta", 0.0),
        ("averaging_share", 0.6),
        ("averaging_decay", 1.0),
    ],
)
def test_messages_name_the_argument(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be"):
        shampoo(**{"learning_rate": 0.1, name: value})


def test_a_schedule_gives_numbers():
    optimizer = shampoo(lambda count: jnp.full(1, 0.1))
    params = {"bias": jnp.ones(3)}
    with pytest.raises(ValueError, match=r"^learning_rate must be a number or a scalar array"):
        optimizer.update(params, optimizer.init(params))


@pytest.mark.parametrize("name", ["b1", "weight_decay", "damping"])
def test_schedules_of_other_numbers_are_for_optax(name):
    with pytest.raises(ValueError, match=rf"^{name} must be a number, which optax.inject_hyperpar"):
        shampoo(0.1, **{name: lambda count: 0.5})


def test_products_are_made_for_a_damping_that_is_known():
    with pytest.raises(ValueError, match=r"^damping must be a number with root_solver 'products'"):
        shampoo(0.1, root_solver="products", damping=jnp.float32(1e-6))


def test_every_argument_that_shapes_the_state_is_static():
    arrays = {"b1", "b2", "eps", "weight_decay", "damping", "learning_rate"}
    arrays |= {"averaging_share", "averaging_decay", "averaging_beta"}
    names = set(inspect.signature(shampoo).parameters)
    assert names - arrays == set(static_arguments(shampoo))
    assert "point" in static_arguments(algoperf_winner)


@pytest.mark.parametrize(
    ("function", "own"),
    [
        (shampoo, {}),
        (soap, {"b1": 0.95, "b2": 0.95}),
        (kl_shampoo, {"b1": 0.95, "b2": 0.95, "damping": 1e-6}),
    ],
)
def test_arguments_are_the_options_of_both_frameworks_with_their_defaults(function, own):
    expected = {field.name: field.default for field in dataclasses.fields(ShampooOptions)}
    expected["b1"], expected["b2"] = expected.pop("betas")
    # What only PyTorch has, or has under another name.
    for name in ("lr", "matrix_dims", "overlap"):
        del expected[name]
    if function is not shampoo:
        for name in ("method", "root_solver", *(("exponent",) if function is soap else ())):
            del expected[name]
    given = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    assert expected | own == {name: given.get(name, "no argument") for name in expected}


def test_integers_and_complex_numbers_are_refused_by_path():
    with pytest.raises(ValueError, match=r"int32 at 'embed/ids'"):
        shampoo(0.1).init({"embed": {"ids": jnp.arange(3)}})


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 3, 256, 256), (1, 2304, 256)),
        ((16, 16, 3, 384), (1, 768, 384)),
        ((384, 6, 64), (1, 384, 384)),
        ((16, 64, 1024), (1, 1024, 1024)),
        ((5, 1, 512), (1, 5, 512)),
        ((1, 1, 64, 256), (1, 64, 256)),
        ((8, 8), (1, 8, 8)),
        ((7,), (1, 1, 7)),
        ((), (1, 1, 1)),
    ],
)
def test_the_most_nearly_square_split(shape, expected):
    assert matrices_of("", shape, resolve({})) == expected


def test_splits_and_batches_can_be_chosen_by_path():
    options = resolve(
        {
            "matricize": lambda path, shape: 1,
            "batch_dims": lambda path, shape: 1 if "scanned" in path else 0,
        }
    )
    assert matrices_of("scanned/kernel", (12, 8, 2, 4), options) == (12, 8, 8)
    assert matrices_of("kernel", (12, 8, 2, 4), options) == (1, 12, 64)
    assert matrices_of("scanned/bias", (12, 8), options) == (12, 1, 8)


@pytest.mark.parametrize("value", [0, 3, 1.0])
def test_a_split_that_does_not_fit_is_refused(value):
    options = {"matricize": lambda path, shape: value}
    with pytest.raises(ValueError, match=r"^matricize must be an integer from 1 to 2 for 'a' of"):
        shampoo(0.1, **options).init({"a": jnp.ones((4, 5, 6))})
    with pytest.raises(ValueError, match=r"^batch_dims must be an integer from 0 to 1 for 'a' of"):
        shampoo(0.1, batch_dims=lambda path, shape: 2).init({"a": jnp.ones(4)})


@pytest.mark.parametrize("lanes", [1, 3])
def test_blocks_come_back_where_they_were(lanes):
    tree = [np.arange(np.prod(s), dtype=np.float32).reshape(s) for s in ((9, 7), (2, 4, 3), (4,))]
    tree = [jnp.asarray(leaf) for leaf in tree]
    layout = layout_of(tree, resolve({"block_size": 4, "batch_dims": 0}))
    stacks = [stacked(tree, layout, spec, lanes) for spec in layout.specs]
    assert all(stack.shape[0] == lanes for stack in stacks)
    assert sum(stack.size for stack in stacks) >= 9 * 7 + 2 * 4 * 3
    back = unstacked(stacks, layout)
    assert sorted(back) == [0, 1]
    assert all(np.array_equal(back[index], tree[index]) for index in back)


def test_presets_are_what_they_are_called():
    params = {"kernel": jnp.ones((4, 3))}
    states = [make(0.1).init(params).stacks["4x3"] for make in (soap, kl_shampoo)]
    assert "basis_second" in states[0]
    assert "left_values" in states[1]
    # Heavy ball in place of a first moment that averages.
    assert "velocity" in algoperf_winner(point=3).init(params).stacks["4x3"]
    with pytest.raises(ValueError, match=r"^point must be an integer from 1 to 5, got 6"):
        algoperf_winner(point=6)
    with pytest.raises(ValueError, match=r"^b1 must be"):
        soap(0.1, b1=1)


def test_the_soap_preset_takes_a_damping_which_second_moments_are_matched_with():
    params = {"kernel": jnp.arange(12.0).reshape(4, 3)}
    moments = []
    for damping in (1e-4, 0.5):
        optimizer = soap(0.1, damping=damping, refresh_interval=1)
        state = jax.jit(optimizer.init)(params)
        for _ in range(3):
            _, state = jax.jit(optimizer.update)(params, state, params)
        moments.append(state.stacks["4x3"]["basis_second"])
    assert not np.allclose(*moments)


def test_parts_of_rows_and_of_columns_are_the_same_transposed():
    """And only matrices that they fit are cut into them."""
    draw = np.random.default_rng(0).normal
    rows = {"fused": jnp.asarray(draw(size=(2, 9, 4))), "bias": jnp.ones(4)}
    columns = {**rows, "fused": rows["fused"].swapaxes(1, 2)}
    updates = []
    for params in (rows, columns):
        optimizer = shampoo(0.1, batch_dims=1, split=lambda path, shape: (3, 6))
        state = jax.jit(optimizer.init)(params)
        assert sorted(state.stacks) == ["3x4", "6x4"]
        updates.append(jax.jit(optimizer.update)(params, state, params)[0]["fused"])
    np.testing.assert_allclose(updates[0], updates[1].swapaxes(1, 2), rtol=1e-6)
    with pytest.raises(ValueError, match=r"^split must be sizes that add up to the 9 rows or 4"):
        shampoo(0.1, batch_dims=1, split=(4, 4)).init(rows)


def test_short_dtypes_are_those_of_factors_and_roots_alone():
    # Damped, since what rounding does to small eigenvalues is large.
    options = {"exponent": 0.25, "damping": 0.1, "refresh_interval": 1}
    dtypes = {"factor_dtype": jnp.bfloat16, "root_dtype": "bfloat16"}
    draw = np.random.default_rng(0).normal
    params = {"kernel": jnp.asarray(draw(size=(6, 4)), jnp.float32)}
    for method, derived in (("shampoo", "root"), ("kl_shampoo", "basis")):
        updates = []
        for short in ({}, dtypes):
            optimizer = shampoo(0.1, method=method, **options, **short)
            state = jax.jit(optimizer.init)(params)
            update = jax.jit(optimizer.update)
            for _ in range(3):
                step_updates, state = update(params, state, params)
            updates.append(step_updates["kernel"])
        stack = state.stacks["6x4"]
        names_in_bfloat16 = {name for name, array in stack.items() if array.dtype == jnp.bfloat16}
        assert names_in_bfloat16 == {
            f"{side}{end}" for side in ("left", "right") for end in ("", f"_{derived}")
        }
        error = np.linalg.norm(updates[0] - updates[1]) / np.linalg.norm(updates[0])
        assert 0 < error < 0.1


def test_short_averages_keep_their_expectation_and_their_symmetry():
    """To 4.5 standard deviations of their mean, and where rounding to nearest moves none."""
    exact = 1 + jnp.asarray(np.random.default_rng(0).random((1, 8, 8)) * 2**-9, jnp.float32)
    exact = (exact + exact.swapaxes(1, 2)) / 2
    many = jax.jit(jax.vmap(lambda seed: shortened(exact, jnp.bfloat16, seed)))
    rounded = np.asarray(many(jnp.arange(1024)), np.float32)
    assert np.array_equal(rounded, rounded.swapaxes(-1, -2))
    assert set(np.unique(rounded)) == {1.0, 1 + 2**-7}
    assert np.abs(rounded.mean(0) - exact).max() < 4.5 * 2**-7 * 0.45 / 32
    assert np.all(exact.astype(jnp.bfloat16) == 1)
