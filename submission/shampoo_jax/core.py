"""One step of a whole tree: gradients to directions for a learning rate of 1."""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from . import diagonal, geometry, sharding, stack_step
from .geometry import Layout
from .options import Options
from .refresh import due_blocks
from .states import ShampooState
from .step import Step, begin

# Of leaves without factors: joining longer ones would cost more than it saves.
_SHORT = 1 << 16


def initial_state(layout: Layout, options: Options) -> ShampooState:
    """State before the first step."""
    stacks = {}
    for spec in layout.specs:
        block = stack_step.initial_block(spec, options.static, layout.dtype)
        lanes = options.division.lanes
        shape = (lanes, geometry.rows_of(spec, lanes))
        stacks[geometry.stack_name(spec)] = {
            name: jnp.broadcast_to(value, (*shape, *value.shape)) for name, value in block.items()
        }
    leaves = {}
    for index in layout.diagonal:
        names = ["first"]
        if diagonal.has_second(options.static.diagonal):
            names.append("second")
        if options.static.momentum > 0:
            names.append("velocity")
        # Arrays of their own: buffers that are shared could not be donated.
        leaves[str(index)] = {name: jnp.zeros(layout.shapes[index], layout.dtype) for name in names}
    zero = jnp.zeros((), jnp.int32)
    weight = jnp.zeros((), layout.dtype)
    state = ShampooState(zero, zero.copy(), zero.copy(), weight, stacks, leaves)
    return sharding.constrained(state, options.division)


def directions(
    grads: Sequence[Array], state: ShampooState, layout: Layout, options: Options
) -> tuple[list[Array], ShampooState, Step]:
    """Directions of all leaves, zero at a skipped step, and the new state.

    Args:
      grads: gradients of the leaves.
      state: before the step.
      layout: of the leaves.
      options: of the transformation.
    """
    grads = [jnp.asarray(grad, layout.dtype) for grad in grads]
    stacks = [geometry.stacked(grads, layout, s, options.division.lanes) for s in layout.specs]
    finite = _are_finite([*stacks, *_joined([grads[index] for index in layout.diagonal])])
    step = begin(
        finite,
        state.calls,
        state.count,
        state.factor_weight,
        options.rates.cast(layout.dtype),
    )
    blocks, states = _step_stacks(stacks, state, layout, step, options)
    updates = geometry.unstacked(blocks, layout)
    leaves = {}
    for index in layout.diagonal:
        update, leaves[str(index)] = _step_leaf(
            grads[index], state.leaves[str(index)], step, options
        )
        updates[index] = jnp.where(finite, update, 0.0)
    new = state._replace(
        count=step.count,
        calls=step.calls,
        skipped=state.skipped + ~finite,
        factor_weight=step.factor_weight,
        stacks=states,
        leaves=leaves,
    )
    new = sharding.constrained(new, options.division)
    return [updates[index] for index in range(len(grads))], new, step


def _are_finite(arrays: Sequence[Array]) -> Array:
    """Whether all are; what squares out of the dtype's range is not: its factors would."""
    finite = jnp.array(True)
    for array in arrays:
        finite &= jnp.isfinite(jnp.square(array).sum())
    return finite


def _joined(leaves: Sequence[Array]) -> list[Array]:
    """The short ones as a single vector, since a kernel for each takes longer to compile."""
    short = [leaf.reshape(-1) for leaf in leaves if leaf.size < _SHORT]
    long = [leaf for leaf in leaves if leaf.size >= _SHORT]
    return [*long, jnp.concatenate(short)] if short else long


def _step_leaf(
    grad: Array, state: dict[str, Array], step: Step, options: Options
) -> tuple[Array, dict[str, Array]]:
    """The diagonal method's step of a leaf without factors."""
    static, new = options.static, dict(state)
    new["first"] = diagonal.first_moment(state["first"], grad, step)
    average = diagonal.moment_taken(new["first"], grad, step, static.nesterov)
    second = None
    if "second" in state:
        second = diagonal.update_second(static.diagonal, state["second"], grad, step)
        new["second"] = second
    update = diagonal.direction(static.diagonal, average, second, step)
    if "velocity" in state:
        new["velocity"], update = diagonal.with_momentum(
            state["velocity"], update, step, static.momentum, static.nesterov
        )
    return update, new


def _step_stacks(
    stacks: Sequence[Array], state: ShampooState, layout: Layout, step: Step, options: Options
) -> tuple[list[Array], dict[str, Any]]:
    """Directions of all stacks, zero at a skipped step, and their new states.

    Args:
      stacks: gradients, [lanes, rows, m, n].
      state: before the step.
      layout: of the leaves.
      step: the step.
      options: of the transformation.
    """
    static = options.static
    names = [geometry.stack_name(spec) for spec in layout.specs]
    due = due_blocks(layout.specs, step.calls, static.refresh_interval, static.refresh)
    blocks, states = sharding.divided(
        functools.partial(stack_step.step_stacks, layout.specs, options=static),
        [state.stacks[name] for name in names],
        stacks,
        due,
        step,
        options.division,
    )
    return blocks, dict(zip(names, states, strict=True))
