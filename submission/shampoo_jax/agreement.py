"""What a step is given must agree: gradients with parameters, and state with both and options."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import DictKey, GetAttrKey

from ..plan.options import check
from .states import ShampooState


def path_name(path: Any) -> str:
    """Of a leaf, as in "dense/kernel", without the "value" of a box of flax's in a dict.

    `nnx.Optimizer` boxes the parameters that it gives init, and not those that it gives update.
    """
    if path[-1:] == (GetAttrKey("value"),) and isinstance(path[-2:][0], DictKey):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")


def check_updates(updates: Any, params: Any) -> None:
    """Raises ValueError unless there is a gradient of its shape for every parameter.

    Args:
      updates: gradients.
      params: the parameters.
    """
    grads, weights = _by_path(updates), _by_path(params)
    for path in weights:
        if path not in grads:
            raise ValueError(
                f"updates must have an array for every parameter, got none at {path!r}; "
                "optax.masked or optax.multi_transform can leave it out."
            )
    structure, allowed = jax.tree.structure(updates), jax.tree.structure(params)
    check(structure == allowed, "updates", structure, f"a tree like params, {allowed}")
    for path, weight in weights.items():
        shape, of_weight = jnp.shape(grads[path]), jnp.shape(weight)
        what = f"of the parameter's shape {of_weight} at {path!r}"
        check(shape == of_weight, "updates", shape, what)


def check_state(state: Any, expected: ShampooState, lanes: int) -> None:
    """Raises ValueError unless a state is as init makes it.

    Args:
      state: as given.
      expected: what `jax.eval_shape` makes of init for these options and parameters.
      lanes: of the options.
    """
    is_valid = isinstance(state, ShampooState)
    check(is_valid, "state", type(state).__name__, "a ShampooState, as init returns it")
    for stack in state.stacks.values():
        in_state = jnp.shape(stack["first"])[:1]
        what = f"{in_state[0]}, the first dimension of state.stacks"
        check(in_state == (lanes,), "lanes", lanes, what)
    arrays, allowed = _by_path(state), _by_path(expected)
    for path in (*allowed, *arrays):
        given, wanted = (
            _described(tree[path]) if path in tree else "nothing" for tree in (arrays, allowed)
        )
        if given != wanted:
            raise ValueError(
                f"state must be of these params and options, which have {wanted} at {path!r}, "
                f"got {given}."
            )


def check_average(average: Array, path: Any, weights: Mapping[Any, Any]) -> None:
    """Raises ValueError unless the weight at a path has its average's shape.

    Args:
      average: of the weight.
      path: of the weight.
      weights: by path.
    """
    given = list(jnp.shape(weights[path])) if path in weights else "nothing"
    allowed = list(jnp.shape(average))
    what = f"of the shape of their averages, {allowed} at {path_name(path)!r}"
    check(given == allowed, "params", given, what)


def _by_path(tree: Any) -> dict[str, Any]:
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _described(array: Any) -> str:
    """As in "float32[4, 3]"."""
    return f"{jnp.result_type(array)}{list(jnp.shape(array))}"
