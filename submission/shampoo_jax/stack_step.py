"""One step of the blocks that a device holds: gradients in, directions out."""

import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array, lax

from ..plan.blocking import StackSpec
from ..plan.options import ShampooOptions
from . import diagonal
from .blocks import Blocks, are_in_turn, mapped
from .kl_shampoo import KLShampoo
from .linalg import frobenius
from .preconditioners import InverseRoot, Preconditioner
from .refresh import Due, Lanes
from .soap import Soap
from .step import Step

_METHODS: dict[str, type[Preconditioner]] = {
    "shampoo": InverseRoot,
    "soap": Soap,
    "kl_shampoo": KLShampoo,
}

# Beside the state of a stack: gradients, and later updates, in one place.
_MATRIX = "matrix"


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
    due: Sequence[dict[int, Due]],
    step: Step,
    lanes: Lanes,
    options: ShampooOptions,
) -> tuple[list[Array], list[Blocks]]:
    """Advances all stacks.

    Args:
      specs: of the stacks.
      states: their state, arrays [lanes.local, rows, ...].
      grads: gradients [lanes.local, rows, m, n].
      due: see `refresh.due_blocks`.
      step: the step.
      lanes: those of this device.
      options: of the transformation.

    Returns:
      Directions for a learning rate of 1, [lanes.local, rows, m, n], zero at a skipped step, and
      the new states.
    """
    stacks: list[Blocks] = []
    for spec, state, grad, ranges in zip(specs, states, grads, due, strict=True):
        flat = {name: _merged(array) for name, array in {**state, _MATRIX: grad}.items()}
        stacks.append(_advanced(spec, flat, ranges, lanes, step, options))
    shape = (lanes.local, -1)
    stacks = [
        {name: array.reshape(*shape, *array.shape[1:]) for name, array in stack.items()}
        for stack in stacks
    ]
    return [stack.pop(_MATRIX) for stack in stacks], stacks


def _merged(array: Array) -> Array:
    """[lanes, rows, ...] as [lanes * rows, ...]."""
    return array.reshape(-1, *array.shape[2:])


def _advanced(
    spec: StackSpec,
    blocks: Blocks,
    due: dict[int, Due],
    lanes: Lanes,
    step: Step,
    options: ShampooOptions,
) -> Blocks:
    """The new state of a stack's blocks, and updates in the place of gradients; arrays [K, ...]."""
    method = preconditioner(spec, options)
    in_turn = are_in_turn(spec.height, spec.width)
    blocks = mapped(
        lambda blocks: method.update_factors(blocks, blocks[_MATRIX], step), blocks, in_turn
    )
    blocks = method.refresh(blocks, due, lanes, step)
    return mapped(functools.partial(_moved, method, step, options), blocks, in_turn)


def _moved(method: Preconditioner, step: Step, options: ShampooOptions, blocks: Blocks) -> Blocks:
    """Moments averaged, and the rest as `_advanced` returns it."""
    grad = blocks[_MATRIX]
    rotated = method.to_basis(blocks, grad)
    blocks = dict(method.update_moments(blocks, rotated, step))
    blocks["first"] = diagonal.first_moment(blocks["first"], rotated, step)
    if "second" in blocks:
        blocks["second"] = diagonal.update_second(options.graft, blocks["second"], grad, step)

    def finish() -> Blocks:
        taken = diagonal.moment_taken(blocks["first"], rotated, step, options.nesterov)
        direction, magnitude = method.direction(blocks, taken, step), None
        if options.graft is not None:
            taken = method.from_basis(blocks, taken)
            magnitude = diagonal.direction(options.graft, taken, blocks.get("second"), step)
        return _finished(blocks, direction, magnitude, step, options)

    return {**blocks, **_unless_skipped(finish, blocks, step)}


def _unless_skipped(finish: Callable[[], Blocks], blocks: Blocks, step: Step) -> Blocks:
    """What `finish` returns, or updates of zero."""

    def skip() -> Blocks:
        unchanged = {_MATRIX: jnp.zeros_like(blocks[_MATRIX])}
        if "velocity" in blocks:
            unchanged["velocity"] = blocks["velocity"]
        return unchanged

    # Also a boundary for the compiler, which might compute all of this anew for every leaf that is
    # cut out of the result.
    chosen: Blocks = lax.cond(step.finite, finish, skip)
    return chosen


def _finished(
    blocks: Blocks,
    direction: Array,
    magnitude: Array | None,
    step: Step,
    options: ShampooOptions,
) -> Blocks:
    """Updates: directions S [K, m, n] with the magnitudes' norms, or corrected for their start."""
    if magnitude is not None:
        update = diagonal.grafted(direction, magnitude)
    else:
        is_finite = jnp.isfinite(frobenius(direction))[:, None, None]
        update = jnp.where(is_finite, direction / step.correction1, 0.0)
    if options.momentum == 0:
        return {_MATRIX: update}
    velocity, update = diagonal.with_momentum(
        blocks["velocity"], update, step, options.momentum, options.nesterov
    )
    return {_MATRIX: update, "velocity": velocity}
