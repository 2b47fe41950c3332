"""One step of the blocks that a device holds: gradients in, directions out."""

import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array, lax

from ..plan.blocking import StackSpec
from ..plan.options import ShampooOptions
from . import diagonal
from .kl_shampoo import KLShampoo
from .linalg import frobenius
from .preconditioners import InverseRoot, Preconditioner
from .refresh import Blocks, Due, Lanes
from .soap import Soap
from .step import Step

_METHODS: dict[str, type[Preconditioner]] = {
    "shampoo": InverseRoot,
    "soap": Soap,
    "kl_shampoo": KLShampoo,
}


def preconditioner(spec: StackSpec, options: ShampooOptions) -> Preconditioner:
    """The chosen method for a stack."""
    return _METHODS[options.method](spec, options)


def initial_block(spec: StackSpec, options: ShampooOptions, dtype: jnp.dtype) -> Blocks:
    """The state of one block, without leading dimensions."""
    zeros = jnp.zeros((spec.height, spec.width), dtype)
    state = {**preconditioner(spec, options).initial(dtype), "first": zeros}
    if diagonal.has_second(options.graft):
        state["second"] = zeros
    if options.momentum > 0:
        state["velocity"] = zeros
    return state


def step_stacks(
    specs: Sequence[StackSpec],
    states: Sequence[Blocks],
    grads: Sequence[Array],
    owners: Sequence[Array],
    due: Sequence[dict[int, Due]],
    step: Step,
    lanes: Lanes,
    options: ShampooOptions,
    leaves: int,
    axes: tuple[str, ...],
) -> tuple[list[Array], list[Blocks]]:
    """Advances all stacks.

    Args:
      specs: of the stacks.
      states: their state, arrays [rows, lanes.local, ...].
      grads: gradients [rows, lanes.local, m, n], zero at a skipped step.
      owners: the leaf of each block, int32 [rows, lanes.local].
      due: see `refresh.due_blocks`.
      step: the step.
      lanes: those of this device.
      options: of the transformation.
      leaves: number of leaves of the tree.
      axes: of a mesh, along which the lanes are divided; empty without one.

    Returns:
      Directions for a learning rate of 1, [rows, lanes.local, m, n], zero at a skipped step, and
      the new states.
    """
    directions: list[Array] = []
    magnitudes: list[Callable[[], Array] | None] = []
    news: list[Blocks] = []
    for spec, state, grad, ranges in zip(specs, states, grads, due, strict=True):
        flat = {name: _merged(array) for name, array in state.items()}
        direction, magnitude, new = _direction(
            spec, flat, _merged(grad), ranges, lanes, step, options
        )
        directions.append(direction)
        magnitudes.append(magnitude)
        news.append(new)
    norms = [
        None if magnitude is None else (frobenius(direction), frobenius(magnitude()))
        for direction, magnitude in zip(directions, magnitudes, strict=True)
    ]
    if options.grafting_scope == "layer":
        norms = _over_layers(norms, [owner.reshape(-1) for owner in owners], leaves, axes)
    velocities = [new["velocity"] for new in news if "velocity" in new]

    def finish() -> tuple[list[Array], list[Array]]:
        updates = [
            _finished(direction, magnitude, pair, step)
            for direction, magnitude, pair in zip(directions, magnitudes, norms, strict=True)
        ]
        if options.momentum == 0:
            return updates, []
        pairs = [
            diagonal.with_momentum(velocity, update, step, options.momentum, options.nesterov)
            for velocity, update in zip(velocities, updates, strict=True)
        ]
        return [update for _, update in pairs], [velocity for velocity, _ in pairs]

    def skip() -> tuple[list[Array], list[Array]]:
        return [jnp.zeros_like(direction) for direction in directions], velocities

    # Also a boundary for the compiler, which might compute all of this anew for every leaf that is
    # cut out of the result.
    updates, velocities = lax.cond(step.finite, finish, skip)
    for number, velocity in enumerate(velocities):
        news[number]["velocity"] = velocity
    shape = (-1, lanes.local)
    states = [
        {name: array.reshape(*shape, *array.shape[1:]) for name, array in new.items()}
        for new in news
    ]
    return [update.reshape(*shape, *update.shape[1:]) for update in updates], states


def _finished(
    direction: Array,
    magnitude: Callable[[], Array] | None,
    norms: tuple[Array, Array] | None,
    step: Step,
) -> Array:
    """The direction S [K, m, n] with the magnitude's norm, or corrected for its start."""
    if magnitude is not None and norms is not None:
        return diagonal.grafted(direction, magnitude(), norms)
    is_finite = jnp.isfinite(frobenius(direction))[:, None, None]
    return jnp.where(is_finite, direction / step.correction1, 0.0)


def _merged(array: Array) -> Array:
    """[rows, lanes, ...] as [rows * lanes, ...]."""
    return array.reshape(-1, *array.shape[2:])


def _direction(
    spec: StackSpec,
    state: Blocks,
    grad: Array,
    due: dict[int, Due],
    lanes: Lanes,
    step: Step,
    options: ShampooOptions,
) -> tuple[Array, Callable[[], Array] | None, Blocks]:
    """S, what computes the grafted method's D or None, and the new state; arrays [K, ...]."""
    method = preconditioner(spec, options)
    state = method.update_factors(state, grad, step)
    state = method.refresh(state, due, lanes, step)
    rotated = method.to_basis(state, grad)
    state = method.update_moments(state, rotated, step)
    first, average = diagonal.first_moment(state["first"], rotated, step, options.nesterov)
    state = {**state, "first": first}
    magnitude: Callable[[], Array] | None = None
    if options.graft is not None:
        second = None
        if "second" in state:
            second = diagonal.update_second(options.graft, state["second"], grad, step)
            state["second"] = second
        in_parameter_basis = method.from_basis(state, average)
        # Not its result: to compute it twice costs less than to store it.
        magnitude = functools.partial(
            diagonal.direction, options.graft, in_parameter_basis, second, step
        )
    return method.direction(state, average, step), magnitude, state


def _over_layers(
    norms: Sequence[tuple[Array, Array] | None],
    owners: Sequence[Array],
    leaves: int,
    axes: tuple[str, ...],
) -> list[tuple[Array, Array] | None]:
    """Norms of the leaves that blocks belong to, in place of those of the blocks."""
    totals = None
    for pair, owner in zip(norms, owners, strict=True):
        if pair is not None:
            squares = jnp.square(jnp.stack(pair, axis=-1))
            totals = jnp.zeros((leaves, 2), squares.dtype) if totals is None else totals
            totals = totals.at[owner].add(squares)
    if totals is None:
        return list(norms)
    if axes:
        totals = lax.psum(totals, axes)
    totals = jnp.sqrt(totals)
    return [
        None if pair is None else (totals[owner, 0], totals[owner, 1])
        for pair, owner in zip(norms, owners, strict=True)
    ]
