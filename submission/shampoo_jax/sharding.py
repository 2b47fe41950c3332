"""State and work divided over a mesh: which array lies where, and the step on one device."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ..plan.options import check
from .options import Division, resolve
from .refresh import Blocks, Due, Lanes
from .states import ShampooState
from .step import Step

# A leaf without factors is divided only if it has as many elements: shorter ones cost little.
_WORTH_DIVIDING = 1 << 16

Body = Callable[
    [Sequence[Blocks], Sequence[Array], Sequence[Array], Sequence[dict[int, Due]], Step, Lanes],
    tuple[list[Array], list[Blocks]],
]


def state_shardings(
    state: Any, mesh: jax.sharding.Mesh, axis: str | tuple[str, ...] | None = None
) -> Any:
    """Where each array of a state lies: for `jax.device_put`, `in_shardings` and restoring.

    Stacks are divided along their lanes, long leaves without factors along their first dimension;
    averages of weights, and all that is not Shampoo's, are on every device.

    Args:
      state: of a transformation with this mesh and axis, or of one around it; arrays, or what
        `jax.eval_shape` makes of its init.
      mesh, axis: as for `shampoo`.

    Raises:
      ValueError: if the axis is not the mesh's, or does not divide the lanes.

    >>> from submission.shampoo_jax import shampoo
    >>> mesh = jax.sharding.Mesh(jax.devices()[:1], ("batch",))
    >>> optimizer = shampoo(1e-3, mesh=mesh)
    >>> state = jax.eval_shape(optimizer.init, {"kernel": jnp.ones((4, 3))})
    >>> state_shardings(state, mesh).stacks["4x3"]["left"].spec == P(None, ("batch",))
    True
    """
    division = resolve({"mesh": mesh, "axis": axis}).division
    everywhere = NamedSharding(mesh, P())

    def of(node: Any) -> Any:
        if not isinstance(node, ShampooState):
            return everywhere
        for stack in node.stacks.values():
            lanes = stack["first"].shape[1]
            what = f"a multiple of the {division.devices} devices along {division.axes}"
            check(lanes % division.devices == 0, "lanes", lanes, what)
        return jax.tree.map(lambda _: everywhere, node)._replace(
            stacks=jax.tree.map(lambda _: _of_stack(division), node.stacks),
            leaves=jax.tree.map(lambda leaf: _of_leaf(leaf.shape, division), node.leaves),
        )

    return jax.tree.map(of, state, is_leaf=lambda node: isinstance(node, ShampooState))


def _of_stack(division: Division) -> NamedSharding:
    return NamedSharding(division.mesh, P(None, division.axes))


def _of_leaf(shape: tuple[int, ...], division: Division) -> NamedSharding:
    is_long = math.prod(shape) >= _WORTH_DIVIDING and shape[0] % division.devices == 0
    return NamedSharding(division.mesh, P(division.axes) if is_long else P())


def constrained(state: ShampooState, division: Division) -> ShampooState:
    """The state with its arrays where they belong."""
    if division.mesh is None:
        return state
    shardings = state_shardings(state, division.mesh, division.axes)
    return state._replace(
        stacks=lax.with_sharding_constraint(state.stacks, shardings.stacks),
        leaves=lax.with_sharding_constraint(state.leaves, shardings.leaves),
    )


def divided(
    body: Body,
    states: Sequence[Blocks],
    grads: Sequence[Array],
    owners: Sequence[Array],
    due: Sequence[dict[int, Due]],
    step: Step,
    division: Division,
) -> tuple[list[Array], list[Blocks]]:
    """Runs the step of stacks on every device for its lanes, then gathers all updates at once.

    Nothing within the step communicates, but for norms of whole layers.

    Args:
      body: takes the state, gradients [rows, lanes, m, n] and owners of a device's lanes, what is
        due, the step and the lanes; returns updates and new states.
      states, grads, owners, due, step: of all lanes; see `stack_step.step_stacks`.
      division: among which devices.

    Returns:
      The updates on every device, and the states divided.
    """
    lanes, devices = division.lanes, division.devices
    if division.mesh is None or not states:
        return body(states, grads, owners, due, step, Lanes(lanes, lanes, 0))
    local = lanes // devices
    shapes = [grad.shape for grad in grads]

    def on_device(
        states: Sequence[Blocks],
        grads: Sequence[Array],
        owners: Sequence[Array],
        due: Sequence[dict[int, Due]],
        step: Step,
    ) -> tuple[Array, list[Blocks]]:
        first = lax.axis_index(division.axes) * local
        updates, new = body(states, grads, owners, due, step, Lanes(lanes, local, first))
        # One buffer, for one collective operation.
        flat = [jnp.swapaxes(update, 0, 1).reshape(local, -1) for update in updates]
        buffer = jnp.concatenate(flat, axis=1)
        return lax.all_gather(buffer, division.axes, axis=0, tiled=True), new

    dtype = step.factor_weight.dtype
    step = jax.tree.map(lambda x: jnp.asarray(x, dtype) if isinstance(x, float) else x, step)
    along = P(None, division.axes)
    mapped = jax.shard_map(
        on_device,
        mesh=division.mesh,
        in_specs=(along, along, along, P(), P()),
        out_specs=(P(), along),
        check_vma=False,
    )
    # Else the partitioner may cut gradients along other dimensions and send pieces around.
    grads = lax.with_sharding_constraint(list(grads), NamedSharding(division.mesh, P()))
    buffer, new = mapped(list(states), list(grads), list(owners), list(due), step)
    updates, start = [], 0
    for rows, _, height, width in shapes:
        stop = start + rows * height * width
        part = buffer[:, start:stop].reshape(lanes, rows, height, width)
        updates.append(jnp.swapaxes(part, 0, 1))
        start = stop
    return updates, new
