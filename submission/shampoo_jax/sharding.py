"""State and work divided over a mesh: which array lies where, and the step on one device."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from ..plan.options import check
from .blocks import Blocks
from .options import Division, Options, resolve
from .refresh import Due, Lanes
from .states import ShampooState
from .step import Step

# A leaf without factors is divided only if it has as many elements: shorter ones cost little.
_WORTH_DIVIDING = 1 << 16

Body = Callable[
    [Sequence[Blocks], Sequence[Array], Sequence[dict[int, Due]], Step, Lanes],
    tuple[list[Array], list[Blocks]],
]


def state_shardings(
    state: Any, mesh: jax.sharding.Mesh, axis: str | tuple[str, ...] | None = None
) -> Any:
    """Where each array of a state lies: for `jax.device_put`, `in_shardings` and restoring.

    Stacks are divided along their lanes, long leaves without factors along their first dimension;
    averages of weights, and all that is not Shampoo's, are on every device. With explicit axes
    averages lie where their weights do, which these shardings do not say.

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
    >>> state_shardings(state, mesh).stacks["4x3"]["left"].spec == P(("batch",))
    True
    """
    division = resolve({"mesh": mesh, "axis": axis}).division
    return _shardings(state, division, mesh)


def _shardings(state: Any, division: Division, mesh: jax.sharding.Mesh) -> Any:
    everywhere = NamedSharding(mesh, P())

    def of(node: Any) -> Any:
        if not isinstance(node, ShampooState):
            return everywhere
        for stack in node.stacks.values():
            lanes = stack["first"].shape[0]
            what = f"a multiple of the {division.devices} devices along {division.axes}"
            check(lanes % division.devices == 0, "lanes", lanes, what)
        return jax.tree.map(lambda _: everywhere, node)._replace(
            stacks=jax.tree.map(lambda _: NamedSharding(mesh, _along(division)), node.stacks),
            leaves=jax.tree.map(
                lambda leaf: NamedSharding(mesh, _of_leaf(leaf.shape, division)), node.leaves
            ),
        )

    return jax.tree.map(of, state, is_leaf=lambda node: isinstance(node, ShampooState))


def _along(division: Division) -> P:
    return P(division.axes)


def _of_leaf(shape: tuple[int, ...], division: Division) -> P:
    is_long = math.prod(shape) >= _WORTH_DIVIDING and shape[0] % division.devices == 0
    return P(division.axes) if is_long else P()


def constrained(state: ShampooState, division: Division) -> ShampooState:
    """The state with its arrays where they belong."""
    if division.mesh is None:
        return state
    shardings = _shardings(state, division, division.mesh)
    return state._replace(
        stacks=lax.with_sharding_constraint(state.stacks, shardings.stacks),
        leaves=lax.with_sharding_constraint(state.leaves, shardings.leaves),
    )


def with_explicit_axes(
    make: Callable[[Options], optax.GradientTransformationExtraArgs], options: Options
) -> optax.GradientTransformationExtraArgs:
    """A transformation for a mesh of either kind of axes.

    Where they are explicit, its own work is partitioned automatically; its state comes out as
    `state_shardings` says, averages and updates as the parameters, or without these the gradients,
    are.

    Args:
      make: the transformation of options whose `Division.mesh` has automatic axes.
      options: of the transformation.
    """
    inner, division = make(options), options.division
    mesh = division.given
    if mesh is None or AxisType.Explicit not in mesh.axis_types:
        return inner
    undivided = make(options._replace(division=division._replace(mesh=None, given=None)))
    # Arguments too: what is closed over would keep its explicit axes.
    numbers = {
        name: value for name, value in options.rates._asdict().items() if isinstance(value, Array)
    }

    def with_numbers(numbers: dict[str, Array]) -> optax.GradientTransformationExtraArgs:
        return make(options._replace(rates=options.rates._replace(**numbers)))

    def run(function: Callable[..., Any], out_sharding: Any, *arguments: Any) -> Any:
        axes = mesh.axis_names
        return jax.sharding.auto_axes(function, axes=axes, out_sharding=out_sharding)(*arguments)

    def placed(state: Any, like: Any) -> Any:
        """The state's shardings, with averages where the parameters are."""
        shardings = _shardings(state, division, mesh)
        if state.average is None:
            return shardings
        average = shardings.average._replace(**{state.average._fields[0]: like})
        return shardings._replace(average=average)

    def init(params: Any) -> Any:
        state = jax.eval_shape(undivided.init, jax.tree.map(_shape, params))
        like = _shardings_on(mesh, params)

        def initial(numbers: dict[str, Array], params: Any) -> Any:
            return with_numbers(numbers).init(params)

        return run(initial, placed(state, like), numbers, params)

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> Any:
        del extra_args
        like = _shardings_on(mesh, updates if params is None else params)

        def advanced(numbers: dict[str, Array], updates: Any, state: Any, params: Any) -> Any:
            return with_numbers(numbers).update(updates, state, params)

        return run(advanced, (like, placed(state, like)), numbers, updates, state, params)

    return optax.GradientTransformationExtraArgs(init, update)


def _shape(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _shardings_on(mesh: jax.sharding.Mesh, tree: Any) -> Any:
    """Where arrays lie, which is everywhere on the mesh if they are not on it."""

    def of(array: Any) -> NamedSharding:
        sharding = jax.typeof(array).sharding
        is_on_mesh = sharding.mesh.axis_names == mesh.axis_names
        return NamedSharding(mesh, sharding.spec if is_on_mesh else P())

    return jax.tree.map(of, tree)


def divided(
    body: Body,
    states: Sequence[Blocks],
    grads: Sequence[Array],
    due: Sequence[dict[int, Due]],
    step: Step,
    division: Division,
) -> tuple[list[Array], list[Blocks]]:
    """Runs the step of stacks on every device for its lanes, then gathers all updates at once.

    Nothing within the step communicates.

    Args:
      body: takes the state, gradients [lanes, rows, m, n] of a device's lanes, what is due, the
        step and the lanes; returns updates and new states.
      states, grads, due, step: of all lanes; see `stack_step.step_stacks`.
      division: among which devices.

    Returns:
      The updates on every device, and the states divided.
    """
    lanes, devices = division.lanes, division.devices
    if division.mesh is None or not states:
        return body(states, grads, due, step, Lanes(lanes, lanes, 0))
    local = lanes // devices
    shapes = [grad.shape for grad in grads]

    def on_device(
        states: Sequence[Blocks],
        grads: Sequence[Array],
        due: Sequence[dict[int, Due]],
        step: Step,
    ) -> tuple[Array, list[Blocks]]:
        first = lax.axis_index(division.axes) * local
        updates, new = body(states, grads, due, step, Lanes(lanes, local, first))
        # One buffer, for one collective operation.
        flat = [update.reshape(local, -1) for update in updates]
        buffer = jnp.concatenate(flat, axis=1)
        return lax.all_gather(buffer, division.axes, axis=0, tiled=True), new

    dtype = step.factor_weight.dtype
    step = jax.tree.map(lambda x: jnp.asarray(x, dtype) if isinstance(x, float) else x, step)
    along = _along(division)
    mapped = jax.shard_map(
        on_device,
        mesh=division.mesh,
        in_specs=(along, along, P(), P()),
        out_specs=(P(), along),
        check_vma=False,
    )
    # Else the partitioner may cut gradients along other dimensions and send pieces around.
    grads = lax.with_sharding_constraint(list(grads), NamedSharding(division.mesh, P()))
    buffer, new = mapped(list(states), list(grads), list(due), step)
    updates, start = [], 0
    for _, rows, height, width in shapes:
        stop = start + rows * height * width
        updates.append(buffer[:, start:stop].reshape(lanes, rows, height, width))
        start = stop
    return updates, new
