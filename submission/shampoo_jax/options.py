"""Arguments of the JAX transformations: what fixes the state, and numbers that may be traced."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..plan.options import ShampooOptions, check, is_integer

Number = Any  # a Python number or a scalar `jax.Array`, traced or not

# Numbers that may be traced and change between steps; `ShampooOptions` sees its defaults instead.
_AVERAGING = ("averaging_share", "averaging_decay", "averaging_beta")
_TRACEABLE = ("eps", "weight_decay", "damping", *_AVERAGING)
# Names that are no fields of `ShampooOptions`.
_OWN = (
    *("learning_rate", "b1", "b2", "mask", "maximize"),
    *("matricize", "batch_dims", "lanes", "mesh", "axis"),
)
_DTYPES = ("factor_dtype", "root_dtype")

_STATIC = (
    *("point", "mask", "method", "decay_mode", "exponent", "refresh_interval", "refresh"),
    *("grafting", "nesterov", "momentum"),
    *("block_size", "block_aspect", "table", "max_dim", "table_aspect", "oversize", "max_aspect"),
    *("matricize", "batch_dims", "split", "root_solver", "basis_solver", *_DTYPES, "maximize"),
    *("averaging", "lanes", "mesh", "axis"),
)


def static_arguments(function: Callable[..., Any]) -> tuple[str, ...]:
    """The arguments that `optax.inject_hyperparams` must not turn into arrays.

    They decide what state there is and how a step is compiled.

    Args:
      function: `shampoo`, or another of this package.

    >>> import optax
    >>> from submission.shampoo_jax import shampoo
    >>> static = static_arguments(shampoo)
    >>> optimizer = optax.inject_hyperparams(shampoo, static_args=static)(learning_rate=1e-3)
    """
    names = inspect.signature(function).parameters
    return tuple(name for name in _STATIC if name in names)


class Rates(NamedTuple):
    """Numbers that a step reads; Python numbers or scalar arrays, which may be traced.

    Attributes:
      learning_rate: a number, or a schedule that takes the number of steps before this one.
      b1, b2, eps, weight_decay, damping, averaging_share, averaging_decay,
      averaging_beta: see `ShampooOptions`, the first two being its `betas`.
    """

    learning_rate: Any
    b1: Number
    b2: Number
    eps: Number
    weight_decay: Number
    damping: Number
    averaging_share: Number
    averaging_decay: Number | None
    averaging_beta: Number

    def cast(self, dtype: Any) -> "Rates":
        """With arrays in the state's dtype, which they would else promote."""
        return Rates(*(x.astype(dtype) if isinstance(x, jax.Array) else x for x in self))


class Division(NamedTuple):
    """How state and work are divided among devices.

    Attributes:
      lanes: second dimension of the stacks' state; block g is at (g // lanes, g % lanes), so that
        what is refreshed in one step lies on different devices.
      mesh: the devices, all of whose axes are automatic; None for no division.
      axes: names of the mesh's axes along which the lanes are divided.
      given: the mesh as the user has it, whose axes may be explicit.
    """

    lanes: int
    mesh: Any
    axes: tuple[str, ...]
    given: Any

    @property
    def devices(self) -> int:
        """Among how many devices the lanes are divided."""
        return math.prod(self.mesh.shape[name] for name in self.axes) if self.mesh else 1


class Options(NamedTuple):
    """Validated arguments.

    Attributes:
      static: what is decided when a step is traced.
      rates: what a step reads.
      matricize, batch_dims: see `geometry.matrices_of`.
      split: see `geometry.plan_leaf`.
      maximize: whether to ascend.
      division: among devices.
    """

    static: ShampooOptions
    rates: Rates
    matricize: Callable[[str, tuple[int, ...]], int] | None
    batch_dims: int | Callable[[str, tuple[int, ...]], int]
    split: tuple[int, ...] | Callable[[str, tuple[int, ...]], tuple[int, ...] | None] | None
    maximize: bool
    division: Division


def resolve(arguments: Mapping[str, Any]) -> Options:
    """Validates the arguments of a public function.

    Args:
      arguments: by name; those of `ShampooOptions`, with "b1" and "b2" for its betas and
        "learning_rate" for its lr, and those of `Options`. What is missing has its default.

    Raises:
      ValueError: if a value is out of range; the message names the argument.
    """
    # Scalars of NumPy have dtypes, to which they would promote the state.
    given = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in arguments.items()
    }
    for name in _STATIC:
        if isinstance(given.get(name), jax.Array):
            raise ValueError(
                f"{name} decides how a step is compiled and must be a Python value, got an array. "
                "Give optax.inject_hyperparams static_args=static_arguments(...) of the function."
            )
    for name in ("b1", "b2", *_TRACEABLE):
        what = "a number, which optax.inject_hyperparams makes of a schedule"
        check(not callable(given.get(name)), name, given.get(name), what)
    own = {name: given.pop(name, None) for name in _OWN}
    if "learning_rate" in arguments:
        _check_rate(own["learning_rate"])
    traced = {
        name: given.pop(name) for name in _TRACEABLE if isinstance(given.get(name), jax.Array)
    }
    for name, value in traced.items():
        check_scalar(name, value)
    betas = tuple(
        _checked_beta(name, own[name], default)
        for name, default in zip(("b1", "b2"), ShampooOptions.betas, strict=True)
    )
    for name in _DTYPES:
        if name in given:
            given[name] = _dtype_name(given[name])
    split = given.pop("split", None) if callable(given.get("split")) else given.get("split")
    b1, b2 = (0.5 if isinstance(beta, jax.Array) else beta for beta in betas)
    static = ShampooOptions(betas=(b1, b2), **given)
    interval = static.refresh_interval
    check(interval < 1 << 31, "refresh_interval", interval, "an integer below 2**31")
    if static.root_solver == "products":
        check(
            "damping" not in traced, "damping", "an array", "a number with root_solver 'products'"
        )
    numbers = {name: traced.get(name, getattr(static, name)) for name in _TRACEABLE}
    rates = Rates(own["learning_rate"], *betas, **numbers)
    maximize = own["maximize"] or False
    check(isinstance(maximize, bool), "maximize", maximize, "a boolean")
    geometry = _checked_geometry(own)
    return Options(static, rates, *geometry, split, maximize, _checked_division(own))


def _dtype_name(value: Any) -> Any:
    """The name of a dtype; what is none is returned for `ShampooOptions` to refuse."""
    try:
        return jnp.dtype(value).name
    except TypeError:
        return value


def _check_rate(value: Any) -> None:
    if callable(value):
        return
    if isinstance(value, jax.Array):
        check_scalar("learning_rate", value)
        return
    is_valid = isinstance(value, (int, float)) and not isinstance(value, bool)
    is_valid = is_valid and math.isfinite(value) and value >= 0
    check(is_valid, "learning_rate", value, "a finite number >= 0 or a schedule")


def check_scalar(name: str, value: jax.Array) -> None:
    """Raises ValueError for an array with dimensions."""
    check(value.ndim == 0, name, tuple(value.shape), "a number or a scalar array")


def _checked_beta(name: str, value: Any, default: float) -> Number:
    if value is None:
        return default
    if isinstance(value, jax.Array):
        check_scalar(name, value)
        # To bfloat16 0.999 is 1.
        what = "of 32 bits or more, as optax.inject_hyperparams makes it by hyperparam_dtype"
        check(value.dtype.itemsize >= 4, name, value.dtype.name, what)
        return value
    is_valid = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1
    check(is_valid, name, value, "a number in [0, 1)")
    return value


def _checked_geometry(own: Mapping[str, Any]) -> tuple[Any, Any]:
    matricize, batch_dims = own["matricize"], own["batch_dims"]
    batch_dims = 0 if batch_dims is None else batch_dims
    what = "None or a function of a leaf's path and shape"
    check(matricize is None or callable(matricize), "matricize", matricize, what)
    is_valid = callable(batch_dims) or (is_integer(batch_dims) and batch_dims >= 0)
    what = "an integer >= 0 or a function of a leaf's path and shape"
    check(is_valid, "batch_dims", batch_dims, what)
    return matricize, batch_dims


def _checked_division(own: Mapping[str, Any]) -> Division:
    lanes, mesh, axis = own["lanes"], own["mesh"], own["axis"]
    is_valid = lanes is None or (is_integer(lanes) and lanes >= 1)
    check(is_valid, "lanes", lanes, "None or an integer >= 1")
    if mesh is None:
        check(axis is None, "axis", axis, "None without a mesh")
        return Division(lanes or 1, None, (), None)
    check(isinstance(mesh, jax.sharding.Mesh), "mesh", mesh, "None or a jax.sharding.Mesh")
    if axis is None:
        what = f"one of {mesh.axis_names} or several, since the mesh has more than one"
        check(len(mesh.axis_names) == 1, "axis", axis, what)
        axis = mesh.axis_names
    is_valid = isinstance(axis, (str, tuple))
    axes = (axis,) if isinstance(axis, str) else axis
    is_valid = is_valid and 0 < len(axes) == len(set(axes).intersection(mesh.axis_names))
    check(is_valid, "axis", axis, f"one of the mesh's {mesh.axis_names} or a tuple of several")
    kinds = set(mesh.axis_types)
    types = jax.sharding.AxisType
    allowed = "a mesh whose axis_types are all AxisType.Auto or all AxisType.Explicit"
    check(kinds in ({types.Auto}, {types.Explicit}), "mesh", mesh.axis_types, allowed)
    devices = math.prod(mesh.shape[name] for name in axes)
    lanes = devices if lanes is None else lanes
    check(lanes % devices == 0, "lanes", lanes, f"a multiple of the {devices} devices along {axes}")
    # Automatic partitioning fills in the shardings of all that is not divided here.
    automatic = jax.sharding.Mesh(
        mesh.devices, mesh.axis_names, axis_types=(types.Auto,) * len(mesh.axis_names)
    )
    return Division(lanes, automatic, axes, mesh)
