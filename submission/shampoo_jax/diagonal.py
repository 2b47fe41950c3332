"""Diagonal methods: the whole step of leaves without factors, or a magnitude to graft."""

import math

import jax.numpy as jnp
from jax import Array

from .linalg import frobenius
from .step import Step


def has_second(kind: str | None) -> bool:
    """Whether a diagonal method keeps second moments."""
    return kind not in (None, "sgd")


def update_second(kind: str | None, second: Array, grad: Array, step: Step) -> Array:
    """v <- b v + (1 - b) g g, or v + g g for AdaGrad; unchanged at a skipped step."""
    squares = grad * grad
    new = second + squares if kind == "adagrad" else step.decay2 * second + step.share2 * squares
    return jnp.where(step.finite, new, second)


def direction(kind: str, average: Array, second: Array | None, step: Step) -> Array:
    """The method's step for a learning rate of 1.

    SGD: M / c1; AdaGrad and RMSprop: (M / c1) / (sqrt(v) + eps); Adam (Kingma & Ba 2015,
    arXiv:1412.6980, algorithm 1): (M / c1) / (sqrt(v / c2) + eps).

    Args:
      kind: the method.
      average: M, the first moment or its look-ahead.
      second: v; None for SGD.
      step: with the bias corrections c1 and c2.
    """
    corrected = average / step.correction1
    if second is None:
        return corrected
    if kind == "adam":
        second = second / step.correction2
    return corrected / (jnp.sqrt(second) + step.eps)


def first_moment(first: Array, grad: Array, step: Step) -> Array:
    """M <- b M + (1 - b) g; unchanged at a skipped step."""
    return jnp.where(step.finite, step.decay1 * first + step.share1 * grad, first)


def moment_taken(first: Array, grad: Array, step: Step, nesterov: bool) -> Array:
    """What a step takes of the new M: M itself, or its look-ahead b M + (1 - b) g."""
    return step.decay1 * first + step.share1 * grad if nesterov else first


def grafted(update: Array, magnitude: Array) -> Array:
    """S |D| / |S|, or D where |S| is zero, or too small or large to be accurate.

    (Agarwal et al. 2020, arXiv:2002.11803.)

    Args:
      update, magnitude: S and D, [..., m, n].
    """
    smallest = math.sqrt(float(jnp.finfo(update.dtype).tiny)) * 10
    of_update, of_magnitude = frobenius(update), frobenius(magnitude)
    usable = (of_update > smallest) & (of_update < math.inf)
    ratio = of_magnitude / jnp.where(usable, of_update, 1.0)
    return jnp.where(usable[..., None, None], update * ratio[..., None, None], magnitude)


def with_momentum(
    velocity: Array, update: Array, step: Step, momentum: float, nesterov: bool
) -> tuple[Array, Array]:
    """B <- momentum B + P, and what a step takes: B, or with a look-ahead P + momentum B."""
    update = jnp.where(step.finite, update, 0.0)
    velocity = jnp.where(step.finite, momentum, 1.0) * velocity + update
    return velocity, (update + momentum * velocity if nesterov else velocity)
