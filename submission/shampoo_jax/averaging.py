"""Averages of the iterates, which evaluation reads instead of the weights that training moves."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..plan.options import check
from .agreement import check_average
from .options import Number, Options
from .states import ShampooState
from .step import Step


class ExponentialAverage(NamedTuple):
    """x <- d x + (1 - d) W after each step; evaluation reads x.

    At the k-th step d is

        (1 - 1/k)^(1/share - 1),

    for a mean age of share k (Karras et al. 2024, arXiv:2312.02696), or "averaging_decay".

    Attributes:
      average: x, a tree like the parameters in the state's dtype; at first the parameters.
    """

    average: Any


class ScheduleFree(NamedTuple):
    """The weights hold y, where gradients are taken, and evaluation reads x.

    (Defazio et al. 2024, arXiv:2405.15682, equations 3 to 5; x from y = (1 - beta) z + beta x.)

    Attributes:
      z: a tree like the parameters in the state's dtype; at first the parameters.
      weight_sum: of the squared learning rates.
      beta: the last step's `averaging_beta`.
    """

    z: Any
    weight_sum: Array
    beta: Array


def initial(params: Any, options: Options, dtype: Any) -> ExponentialAverage | ScheduleFree | None:
    """Before the first step; None without averaging."""
    if options.static.averaging is None:
        return None
    # Copies, since a step may be given the state, whose buffers it takes over, together with
    # parameters or injected numbers.
    copies = jax.tree.map(lambda leaf: jnp.array(leaf, dtype, copy=True), params)
    if options.static.averaging == "ema":
        return ExponentialAverage(copies)
    beta = jnp.array(options.rates.averaging_beta, dtype, copy=True)
    return ScheduleFree(copies, jnp.zeros((), dtype), beta)


def advanced(
    state: ExponentialAverage | ScheduleFree,
    weights: Sequence[Array],
    moves: Sequence[Array],
    step: Step,
    rate: Number,
    options: Options,
) -> tuple[list[Array], ExponentialAverage | ScheduleFree]:
    """What is to be added to the weights, and the averages after it.

    Args:
      state: before the step.
      weights: leaves before the step, in the state's dtype.
      moves: what the plain optimizer would add to them, zero at a skipped step.
      step: the step; where its gradients are not finite, all stays as it is.
      rate: the learning rate.
      options: of the transformation.
    """
    rates, finite = options.rates, step.finite
    if isinstance(state, ExponentialAverage):
        gain = jnp.where(finite, _gain(step.count, options, step.factor_weight.dtype), 0.0)
        averages, structure = jax.tree.flatten(state.average)
        averages = [
            average + gain.astype(average.dtype) * (weight + move - average)
            for average, weight, move in zip(averages, weights, moves, strict=True)
        ]
        return list(moves), ExponentialAverage(jax.tree.unflatten(structure, averages))
    dtype = state.weight_sum.dtype
    beta = jnp.where(finite, rates.averaging_beta, state.beta).astype(dtype)
    term = jnp.where(finite, rate * rate, 0.0).astype(dtype)
    total = state.weight_sum + term
    share = term / jnp.maximum(total, jnp.finfo(dtype).tiny)
    iterates, structure = jax.tree.flatten(state.z)
    updates = [
        share * (z - weight) + (1 - beta * (1 - share)) * move
        for z, weight, move in zip(iterates, weights, moves, strict=True)
    ]
    iterates = [z + move for z, move in zip(iterates, moves, strict=True)]
    return updates, ScheduleFree(jax.tree.unflatten(structure, iterates), total, beta)


def _gain(count: Array, options: Options, dtype: Any) -> Array:
    """1 - d after the step that brought the number of finite gradients to `count`."""
    rates = options.rates
    if rates.averaging_decay is not None:
        return 1 - rates.averaging_decay
    # In float32 the powers of 1 - 1/k would lose what makes the difference to 1.
    log = jnp.log1p(-1 / jnp.maximum(count.astype(dtype), 1))
    return -jnp.expm1((1 / rates.averaging_share - 1) * log)


def evaluated(state: Any, params: Any) -> Any:
    """The weights to evaluate: averages where there are some, else `params` themselves.

    Running statistics of batch normalisation are the model's, and those of training are of
    `params`: before an evaluation take them anew, by passes in train mode with these weights.

    Args:
      state: of `shampoo` or of anything around it, as `optax.chain` or `optax.multi_transform`.
      params: as in training.

    Raises:
      ValueError: if there is no state of Shampoo in `state`, or one of other parameters.

    >>> from submission.shampoo_jax import evaluated, shampoo
    >>> optimizer = shampoo(1.0, averaging="ema", averaging_decay=0.75)
    >>> params = {"bias": jnp.zeros(1)}
    >>> state = optimizer.init(params)
    >>> updates, state = jax.jit(optimizer.update)({"bias": jnp.ones(1)}, state, params)
    >>> params = jax.tree.map(jnp.add, params, updates)
    >>> round(params["bias"].item(), 4), round(evaluated(state, params)["bias"].item(), 4)
    (-1.0, -0.25)
    """
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, ShampooState))
    shampoo_states = [leaf for leaf in leaves if isinstance(leaf, ShampooState)]
    if not shampoo_states:
        raise ValueError("state must be that of a Shampoo transformation, or hold one.")
    pairs, structure = jax.tree_util.tree_flatten_with_path(params)
    weights = dict(pairs)
    # Leaves of other groups are no leaves of a masked tree.
    for shampoo_state in shampoo_states:
        if isinstance(shampoo_state.average, ExponentialAverage):
            for path, x in jax.tree_util.tree_leaves_with_path(shampoo_state.average.average):
                check_average(x, path, weights)
                weights[path] = x.astype(weights[path].dtype)
        elif isinstance(shampoo_state.average, ScheduleFree):
            beta = shampoo_state.average.beta
            what = "of one model, whose beta is a scalar; jax.vmap of evaluated takes several"
            check(jnp.ndim(beta) == 0, "state", jnp.shape(beta), what)
            gain = 1 - 1 / beta
            for path, z in jax.tree_util.tree_leaves_with_path(shampoo_state.average.z):
                check_average(z, path, weights)
                y = weights[path]
                weights[path] = (y + gain * (z - y)).astype(y.dtype)
    return jax.tree.unflatten(structure, list(weights.values()))
