"""Averages that are stored in fewer bits than they are computed in."""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax


def shortened(exact: Array, dtype: Any, seed: Array) -> Array:
    """Symmetric matrices in a shorter dtype, rounded so that their expectation stays.

    Rounding to nearest would leave an average where it is once its increments are below half a
    unit, which with EMA weights near 1 they nearly always are.

    Args:
      exact: [K, d, d], float32 and finite, unless the dtype is theirs.
      dtype: theirs or bfloat16.
      seed: an int32 scalar. The noise depends on it, on row and column, and on nothing else, so
        that it is alike wherever a block lies.

    >>> exact = jnp.full((1, 2, 2), 1 + 2**-8)
    >>> rounded = [shortened(exact, jnp.bfloat16, jnp.array(seed)) for seed in range(8)]
    >>> sorted({matrices[0, 1, 1].item() for matrices in rounded})
    [1.0, 1.0078125]
    """
    if exact.dtype == dtype:
        return exact
    noise = _noise(exact.shape[-1], seed)[None]
    bits = lax.bitcast_convert_type(exact, jnp.uint32) + noise
    rounded = lax.bitcast_convert_type(bits & jnp.uint32(0xFFFF0000), jnp.float32)
    return rounded.astype(dtype)


def _noise(size: int, seed: Array) -> Array:
    """Uniform integers of 16 bits, uint32 [size, size], symmetric.

    Hashes of a counter, by the last steps of MurmurHash3 (Appleby 2011, in the public domain).
    """
    rows = jnp.arange(size, dtype=jnp.uint32)
    lower, upper = jnp.minimum(rows[:, None], rows[None]), jnp.maximum(rows[:, None], rows[None])
    x = lower * jnp.uint32(size) + upper
    x = x ^ (seed.astype(jnp.uint32) * jnp.uint32(0x9E3779B9))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    return (x ^ (x >> 16)) & jnp.uint32(0xFFFF)
