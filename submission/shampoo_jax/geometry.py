"""Leaves of a tree become matrices, matrices blocks, and equal blocks one stack."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType

from ..plan.blocking import ParameterPlan, Part, StackSpec, parts_of, plan_parameter, stack_specs
from ..plan.options import check, is_integer
from .agreement import path_name
from .options import Options


class Layout(NamedTuple):
    """How the leaves of a tree are treated; shapes and options alone decide.

    Attributes:
      paths: the names of the leaves, as in "dense/kernel".
      shapes: their shapes.
      plans: one per leaf.
      transposes: for the leaves whose matrices are planned as their transposes, how many these are,
        and their rows and columns; None for the others.
      specs: the stacks of blocks with factors; a part's index is its leaf's.
      diagonal: the leaves without factors.
      dtype: of all state: float64 where a leaf is, else float32.
    """

    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    plans: tuple[ParameterPlan, ...]
    transposes: tuple[tuple[int, int, int] | None, ...]
    specs: tuple[StackSpec, ...]
    diagonal: tuple[int, ...]
    dtype: Any


def layout_of(tree: Any, options: Options) -> Layout:
    """The layout of the leaves of a tree of arrays.

    Raises:
      ValueError: if a leaf is not of a real floating dtype or lies on explicit axes, which
        `sharding.with_explicit_axes` takes away, or `matricize`, `batch_dims` or `split` does not
        fit one.
    """
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
    paths = tuple(path_name(path) for path, _ in pairs)
    dtype = _state_dtype(paths, [leaf for _, leaf in pairs])
    for path, (_, leaf) in zip(paths, pairs, strict=True):
        axes = explicit_axes(leaf)
        what = f"the one with explicit axes {axes} that {path!r} lies on"
        check(not axes, "mesh", options.division.given, what)
    shapes = tuple(tuple(jnp.shape(leaf)) for _, leaf in pairs)
    plans, transposes, parts, diagonal = [], [], [], []
    for index, (path, shape) in enumerate(zip(paths, shapes, strict=True)):
        plan, transpose = plan_leaf(path, shape, options)
        plans.append(plan)
        transposes.append(transpose)
        if any(any(grid.sides) for grid in plan.grids):
            parts.extend(parts_of(index, plan))
        else:
            diagonal.append(index)
    specs = tuple(stack_specs(parts))
    return Layout(paths, shapes, tuple(plans), tuple(transposes), specs, tuple(diagonal), dtype)


def explicit_axes(array: Any) -> tuple[Any, ...]:
    """The explicit axes of the mesh that an array lies on."""
    if isinstance(array, jax.ShapeDtypeStruct):
        return ()
    mesh = jax.typeof(array).sharding.mesh
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return tuple(name for name, kind in kinds if kind == AxisType.Explicit)


def _state_dtype(paths: Sequence[str], leaves: Sequence[Any]) -> Any:
    dtypes = []
    for path, leaf in zip(paths, leaves, strict=True):
        is_array = hasattr(leaf, "dtype") or isinstance(leaf, (int, float, complex))
        dtype = jnp.result_type(leaf) if is_array else type(leaf)
        # With those of 8 bits JAX computes nothing unless told in which dtype.
        if not jnp.issubdtype(dtype, jnp.floating) or jnp.dtype(dtype).itemsize == 1:
            raise ValueError(
                "parameters must be real floating-point arrays of 16 bits or more, got "
                f"{dtype} at {path!r}; optax.masked or optax.multi_transform can leave it out."
            )
        dtypes.append(dtype)
    return jnp.result_type(jnp.float32, *dtypes)


def plan_leaf(
    path: str, shape: tuple[int, ...], options: Options
) -> tuple[ParameterPlan, tuple[int, int, int] | None]:
    """How a leaf is matricised and cut, and `Layout.transposes`.

    The sizes of `split` are rows of the parts of a fused matrix, each with blocks of its own, or,
    where they do not add up to the rows, columns: a kernel [in, 3 * size] is cut into queries, keys
    and values by (size, size, size). Such a leaf is planned as the transposes of its matrices.

    Raises:
      ValueError: if `matricize`, `batch_dims` or `split` does not fit the leaf.
    """
    batch, rows, columns = matrices_of(path, shape, options)
    if min(rows, columns) <= 1:
        return plan_parameter((batch * rows * columns,), options.static), None
    split = options.split(path, shape) if callable(options.split) else options.split
    config = dataclasses.replace(options.static, matrix_dims="stack", split=split)
    if split is None or sum(split) == rows:
        return plan_parameter((batch, rows, columns), config), None
    what = f"sizes that add up to the {rows} rows or {columns} columns of {path!r}"
    check(sum(split) == columns, "split", split, what)
    return plan_parameter((batch, columns, rows), config), (batch, rows, columns)


def matrices_of(path: str, shape: tuple[int, ...], options: Options) -> tuple[int, int, int]:
    """How many matrices a leaf is, and their rows and columns.

    The first `batch_dims` dimensions count matrices: of layers that are scanned over, or experts.
    `matricize` says how many of the others are rows. Without it those splits into two runs of
    dimensions are compared, and the most nearly square one is taken, of equals the later: a kernel
    [height, width, in, out] is [height * width * in, out], and attention's [in, heads, size] is
    [in, heads * size].

    Raises:
      ValueError: if `matricize` or `batch_dims` does not fit the leaf.

    >>> from submission.shampoo_jax.options import resolve
    >>> matrices_of("kernel", (3, 3, 16, 32), resolve({}))
    (1, 144, 32)
    >>> matrices_of("scanned", (12, 64, 4, 16), resolve({"batch_dims": 1}))
    (12, 64, 64)
    """
    batch_dims = options.batch_dims
    if callable(batch_dims):
        batch_dims = batch_dims(path, shape)
        is_valid = is_integer(batch_dims) and 0 <= batch_dims <= len(shape)
        what = f"an integer from 0 to {len(shape)} for {path!r} of shape {shape}"
        check(is_valid, "batch_dims", batch_dims, what)
    batch_dims = min(batch_dims, len(shape))
    batch, inner = math.prod(shape[:batch_dims]), shape[batch_dims:]
    if len(inner) < 2:
        return batch, 1, math.prod(inner)
    if options.matricize is not None:
        split = options.matricize(path, shape)
        is_valid = is_integer(split) and 1 <= split < len(inner)
        what = f"an integer from 1 to {len(inner) - 1} for {path!r} of shape {shape}"
        check(is_valid, "matricize", split, what)
    else:
        split = min(range(len(inner) - 1, 0, -1), key=lambda at: _elongation(inner, at))
    return batch, math.prod(inner[:split]), math.prod(inner[split:])


def _elongation(shape: tuple[int, ...], split: int) -> float:
    short, long = sorted((math.prod(shape[:split]), math.prod(shape[split:])))
    return long / max(short, 1)


def stack_name(spec: StackSpec) -> str:
    """The key of a stack in the state: its blocks' shape, and the side that is preconditioned.

    >>> [stack_name(StackSpec(8, 4, (left, True), ())) for left in (True, False)]
    ['8x4', '8x4_right']
    """
    suffix = {(True, False): "_left", (False, True): "_right"}.get(spec.sides, "")
    return f"{spec.height}x{spec.width}{suffix}"


def rows_of(spec: StackSpec, lanes: int) -> int:
    """The second dimension of a stack's state [lanes, rows, ...]: enough for all blocks."""
    return -(-spec.blocks // lanes)


def stacked(leaves: Sequence[Array], layout: Layout, spec: StackSpec, lanes: int) -> Array:
    """The blocks of a stack, [lanes, rows, m, n] in the state's dtype, zeros behind the last.

    Block g of the stack is at (g % lanes, g // lanes).
    """
    rows = rows_of(spec, lanes)
    # Behind a barrier: XLA would make a slow padding of the first part and the zeros.
    whole = lax.optimization_barrier(
        jnp.zeros((rows * lanes, spec.height, spec.width), layout.dtype)
    )
    for part in spec.parts:
        blocks = _blocks(leaves[part.index], part, layout.transposes[part.index])
        whole = lax.dynamic_update_slice_in_dim(whole, blocks.astype(layout.dtype), part.offset, 0)
    return whole.reshape(rows, lanes, spec.height, spec.width).swapaxes(0, 1)


def _blocks(leaf: Array, part: Part, transpose: tuple[int, int, int] | None) -> Array:
    grid = part.grid
    if transpose is not None:
        leaf = leaf.reshape(transpose).swapaxes(1, 2)
    matrix = leaf.reshape(part.matrix_shape)
    height, width = grid.rows * grid.height, grid.columns * grid.width
    region = matrix[grid.row : grid.row + height, grid.column : grid.column + width]
    region = region.reshape(grid.rows, grid.height, grid.columns, grid.width)
    return region.transpose(0, 2, 1, 3).reshape(grid.blocks, grid.height, grid.width)


def unstacked(stacks: Sequence[Array], layout: Layout) -> dict[int, Array]:
    """The leaves, by index, whose blocks are in `stacks`, [lanes, rows, m, n] each."""
    regions: dict[int, dict[tuple[int, int], Array]] = {}
    for spec, stack in zip(layout.specs, stacks, strict=True):
        blocks = stack.swapaxes(0, 1).reshape(-1, spec.height, spec.width)
        for part in spec.parts:
            grid = part.grid
            part_blocks = blocks[part.offset : part.offset + grid.blocks]
            part_blocks = part_blocks.reshape(grid.rows, grid.columns, grid.height, grid.width)
            part_blocks = part_blocks.transpose(0, 2, 1, 3)
            region = part_blocks.reshape(grid.rows * grid.height, grid.columns * grid.width)
            regions.setdefault(part.index, {})[grid.row, grid.column] = region
    leaves = {}
    for index, parts in regions.items():
        bands = itertools.groupby(sorted(parts), key=lambda at: at[0])
        rows = [jnp.concatenate([parts[at] for at in band], axis=1) for _, band in bands]
        whole, transpose = jnp.concatenate(rows), layout.transposes[index]
        if transpose is not None:
            count, height, width = transpose
            whole = whole.reshape(count, width, height).swapaxes(1, 2)
        leaves[index] = whole.reshape(layout.shapes[index])
    return leaves
