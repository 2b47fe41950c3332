"""Blocks all at once and one after another, their Gram matrices and their roots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from submission.shampoo_jax import shampoo
from submission.shampoo_jax.blocks import mapped
from submission.shampoo_jax.linalg import gram


def test_in_turn_is_the_same_as_all_at_once():
    blocks = {"a": jnp.arange(24.0).reshape(4, 2, 3), "b": jnp.arange(4.0), "c": jnp.ones((4, 5))}

    def function(blocks):
        return {**blocks, "a": blocks["a"] + 1, "b": blocks["a"].sum((1, 2)) * blocks["b"]}

    for in_turn in (False, True):
        new = mapped(function, blocks, in_turn)
        assert sorted(new) == sorted(blocks)
        assert new["c"] is blocks["c"]
        for name, expected in function(blocks).items():
            assert np.array_equal(new[name], expected)


def test_a_stack_of_long_blocks_is_changed_in_place():
    """So that a step needs no second state."""
    stack = jnp.zeros((8, 64, 64))

    def step(stack):
        return mapped(lambda blocks: {"a": blocks["a"] * 2 + 1}, {"a": stack}, True)["a"]

    compiled = jax.jit(step, donate_argnums=0).lower(stack).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < stack.nbytes / 2


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 301, 4), (1, 4, 1025)])
def test_gram_matrices(shape, side):
    matrices = np.random.default_rng(0).standard_normal(shape, np.float32)
    other = matrices.swapaxes(1, 2)
    expected = matrices @ other if side == 0 else other @ matrices
    found = gram(jnp.asarray(matrices), side)
    assert np.array_equal(found, np.swapaxes(found, 1, 2))
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_root_is_taken_in_its_refresh_alone(blocks):
    """XLA moves out of a loop what every trip would find the same, as those of a single block."""
    optimizer = shampoo(1e-3, block_size=8)
    params = {"kernel": jnp.ones((8, 8 * blocks))}
    arguments = params, optimizer.init(params), params
    text = jax.jit(optimizer.update).lower(*arguments).compile().as_text()
    rest, at_every_step = text.split("\nENTRY ")
    assert rest.count("syevd") >= 2
    assert "syevd" not in at_every_step
