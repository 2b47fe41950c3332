"""What a checkpoint must hold to be taken up."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def checked(value: Any, name: str, shape: Sequence[int], parameter: Tensor) -> Tensor:
    """A saved value, if it is a tensor of that shape.

    Args:
      value: what the state of `parameter` holds under `name`, None where it lacks it.
      shape: what it must have.

    Raises:
      ValueError: if it is anything else.
    """
    if not isinstance(value, Tensor) or tuple(value.shape) != tuple(shape):
        found = tuple(value.shape) if isinstance(value, Tensor) else value
        raise ValueError(
            f"state_dict: {name!r} of the parameter of shape {tuple(parameter.shape)} must be a "
            f"tensor of shape {tuple(shape)}, got {found}."
        )
    return value
