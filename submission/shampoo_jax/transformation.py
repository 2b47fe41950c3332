"""Transformations in optax's sense: pure `init` and `update`, made from validated options."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from . import agreement, averaging, core, geometry
from .options import Options, check_scalar
from .sharding import with_explicit_axes
from .states import ShampooState
from .step import Step


def direction_only(options: Options) -> optax.GradientTransformationExtraArgs:
    """Gradients to directions for a learning rate of 1, which are to be subtracted."""
    return with_explicit_axes(_direction_only, options)


def _direction_only(options: Options) -> optax.GradientTransformationExtraArgs:

    def init(params: Any) -> ShampooState:
        return core.initial_state(geometry.layout_of(params, options), options)

    def update(
        updates: Any, state: ShampooState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, ShampooState]:
        del extra_args
        tree = updates if params is None else params
        layout = geometry.layout_of(tree, options)
        _check(updates, state, params, init, options)
        grads, structure = jax.tree.flatten(updates)
        directions, state, _ = core.directions(grads, state, layout, options)
        return jax.tree.unflatten(structure, _cast(directions, jax.tree.leaves(tree))), state

    return optax.GradientTransformationExtraArgs(init, update)


def complete(options: Options, mask: Any) -> optax.GradientTransformationExtraArgs:
    """Gradients to what is to be added to the parameters: with learning rate and decay.

    Both are part of one transformation, for a skipped step to decay nothing and to leave the
    schedule where it was.

    Args:
      options: with a learning rate.
      mask: as in `optax.adamw`: which leaves decay; a tree of booleans, a prefix of one, or a
        function that makes one of the parameters. None for all.
    """
    return with_explicit_axes(functools.partial(_complete, mask=mask), options)


def _complete(options: Options, mask: Any) -> optax.GradientTransformationExtraArgs:
    static, strength = options.static, options.rates.weight_decay
    decays = not (isinstance(strength, (int, float)) and strength == 0)
    needs_params = decays or static.averaging is not None

    def init(params: Any) -> ShampooState:
        layout = geometry.layout_of(params, options)
        state = core.initial_state(layout, options)
        state = state._replace(average=averaging.initial(params, options, layout.dtype))
        if static.decay_mode == "independent":
            rate = _rate(options.rates.learning_rate, state.count, layout.dtype)
            # A copy, as averages are.
            state = state._replace(peak_rate=jnp.array(rate, layout.dtype, copy=True))
        return state

    def update(
        updates: Any, state: ShampooState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, ShampooState]:
        del extra_args
        if params is None and needs_params:
            raise ValueError("update needs params: weights decay or are averaged.")
        tree = updates if params is None else params
        layout = geometry.layout_of(tree, options)
        _check(updates, state, params, init, options)
        weights, (grads, structure) = jax.tree.leaves(tree), jax.tree.flatten(updates)
        rates = options.rates.cast(layout.dtype)
        if options.maximize:
            grads = [-grad for grad in grads]
        wide = [jnp.asarray(weight, layout.dtype) for weight in weights]
        strengths = _strengths(rates.weight_decay, mask, params) if decays else [0.0] * len(wide)
        if decays and static.decay_mode == "l2":
            grads = [
                grad + strength * weight
                for grad, strength, weight in zip(grads, strengths, wide, strict=True)
            ]
        rate = _rate(rates.learning_rate, state.count, layout.dtype)
        directions, state, step = core.directions(grads, state, layout, options)
        moves = [-rate * direction for direction in directions]
        shrink = rate
        if static.decay_mode == "independent":
            assert state.peak_rate is not None
            peak = jnp.maximum(state.peak_rate, rate)
            state = state._replace(peak_rate=peak)
            shrink = rate / jnp.where(peak > 0, peak, 1.0)
        if decays and static.decay_mode != "l2":
            moves = _decayed(moves, wide, strengths, shrink, step)
        if state.average is not None:
            moves, average = averaging.advanced(state.average, wide, moves, step, rate, options)
            state = state._replace(average=average)
        return jax.tree.unflatten(structure, _cast(moves, weights)), state

    return optax.GradientTransformationExtraArgs(init, update)


def _check(updates: Any, state: Any, params: Any, init: Any, options: Options) -> None:
    if params is not None:
        agreement.check_updates(updates, params)
    expected = jax.eval_shape(init, updates if params is None else params)
    agreement.check_state(state, expected, options.division.lanes)


def _rate(learning_rate: Any, count: Array, dtype: Any) -> Any:
    """A Python number, or a scalar array of the dtype."""
    rate = learning_rate(count) if callable(learning_rate) else learning_rate
    if isinstance(rate, (int, float)):
        return float(rate)
    rate = jnp.asarray(rate, dtype)
    check_scalar("learning_rate", rate)
    return rate


def _strengths(weight_decay: Any, mask: Any, params: Any) -> list[Any]:
    """The strength of each leaf's decay."""
    if mask is None:
        return [weight_decay] * len(jax.tree.leaves(params))
    chosen = mask(params) if callable(mask) else mask
    spread = jax.tree.map(lambda flag, leaves: jax.tree.map(lambda _: flag, leaves), chosen, params)
    return [weight_decay * flag for flag in jax.tree.leaves(spread)]


def _decayed(
    moves: Sequence[Array],
    weights: Sequence[Array],
    strengths: Sequence[Any],
    rate: Any,
    step: Step,
) -> list[Array]:
    shrink = jnp.where(step.finite, rate, 0.0)
    return [
        move - (shrink * strength).astype(move.dtype) * weight
        for move, strength, weight in zip(moves, strengths, weights, strict=True)
    ]


def _cast(values: Sequence[Array], like: Sequence[Array]) -> list[Array]:
    dtypes = map(jnp.result_type, like)
    return [value.astype(dtype) for value, dtype in zip(values, dtypes, strict=True)]
