"""AdamW with Nesterov's look-ahead, as a transformation for JAX."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array


class NAdamState(NamedTuple):
    """State of `scale_by_nadam`.

    Attributes:
      count: gradients so far, int32.
      first, second: m and v, trees like the parameters.
    """

    count: Any  # as an array it would clash with the method of tuples
    first: Any
    second: Any


def scale_by_nadam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """(b1 m + (1-b1) g) / (1-b1^t) / (sqrt(v / (1-b2^t)) + eps), see the entry `nadamw`.

    `optax.nadamw` divides the two parts of the look-ahead by bias corrections of their own.
    """

    def init(params: Any) -> NAdamState:
        first, second = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return NAdamState(jnp.zeros((), jnp.int32), first, second)

    def update(updates: Any, state: NAdamState, params: Any = None) -> tuple[Any, NAdamState]:
        del params
        count = state.count + 1
        first = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.first, updates)
        second = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.second, updates)

        def direction(m: Array, v: Array, g: Array) -> Array:
            ahead = (b1 * m + (1 - b1) * g) / _correction(b1, count, g.dtype)
            return ahead / (jnp.sqrt(v / _correction(b2, count, g.dtype)) + eps)

        directions = jax.tree.map(direction, first, second, updates)
        return directions, NAdamState(count, first, second)

    return optax.GradientTransformation(init, update)


def _correction(beta: float, count: Array, dtype: Any) -> Array:
    """1 - beta**count, accurate for beta near 1."""
    logarithm = math.log(beta) if beta > 0 else -math.inf
    return -jnp.expm1(count.astype(dtype) * logarithm)


def nadamw(
    learning_rate: Any,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> optax.GradientTransformation:
    """The step of `scale_by_nadam`, with decoupled weight decay.

    Args:
      learning_rate, b1, b2, eps, weight_decay: as in `optax.adamw`.

    >>> params = {"bias": jnp.ones(2)}
    >>> optimizer = nadamw(0.1, weight_decay=0.0)
    >>> updates, _ = optimizer.update({"bias": jnp.ones(2)}, optimizer.init(params), params)
    >>> [round(value, 4) for value in updates["bias"].tolist()]
    [-0.19, -0.19]
    """
    return optax.chain(
        scale_by_nadam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
