"""The scalars of one step that all leaves and stacks share; traced."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .options import Number, Rates


class Step(NamedTuple):
    """Counters, EMA weights and bias corrections.

    Attributes:
      finite: whether all gradients are finite; where not, nothing changes but `calls`.
      calls: the number of this step, from 1, skipped ones counted.
      count: finite gradients so far, this one included.
      decay1, decay2: EMA weights of the old first and second moments.
      share1, share2: EMA weights of the gradient.
      correction1, correction2: 1 - b**count for both; 1 before the first finite gradient.
      factor_weight: the sum of the weights in the factors after this step.
      eps, damping: see `ShampooOptions`.
    """

    finite: Array
    calls: Array
    count: Any  # as an array it would clash with the method of tuples
    decay1: Number
    decay2: Number
    share1: Number
    share2: Number
    correction1: Array
    correction2: Array
    factor_weight: Array
    eps: Number
    damping: Number


def begin(
    finite: Array,
    calls: Array,
    count: Array,
    factor_weight: Array,
    rates: Rates,
) -> Step:
    """The step after `count` finite gradients and `calls` calls, int32 scalars.

    Args:
      finite: see `Step`.
      calls, count: before this step.
      factor_weight: before this step; its dtype is that of all state.
      rates: of the transformation.
    """
    dtype = factor_weight.dtype
    calls = calls + 1
    count = count + finite.astype(count.dtype)
    weight = rates.b2 * factor_weight + (1 - rates.b2)
    return Step(
        finite,
        calls,
        count,
        rates.b1,
        rates.b2,
        1 - rates.b1,
        1 - rates.b2,
        bias_correction(rates.b1, count, dtype),
        bias_correction(rates.b2, count, dtype),
        jnp.where(finite, weight, factor_weight),
        rates.eps,
        rates.damping,
    )


def bias_correction(beta: Number, count: Array, dtype: Any) -> Array:
    """1 - beta**count, accurate for beta near 1; a count of 0 counts as 1.

    (Kingma & Ba 2015, arXiv:1412.6980, section 3.)

    >>> round(float(bias_correction(0.9, jnp.array(2), jnp.float32)), 6)
    0.19
    """
    logarithm: Any
    if isinstance(beta, jax.Array):
        logarithm = jnp.log(beta)
    else:
        logarithm = math.log(beta) if beta > 0 else -math.inf
    return -jnp.expm1(jnp.maximum(count, 1).astype(dtype) * logarithm)
