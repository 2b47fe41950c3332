"""Which tensors may be the parameters of a group."""

import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .config import parameter_names
from .placement import check_unflattened


def check_parameters(group: dict[str, Any]) -> None:
    """Checks the parameters of a group, and leaves out repetitions, of which torch has warned.

    Raises:
      ValueError: for one without a shape as yet, a complex or a flattened one.
    """
    named = dict(zip(group["params"], parameter_names(group), strict=True))
    if len(named) < len(group["params"]):
        group["params"] = list(named)
        if "param_names" in group:
            group["param_names"] = list(named.values())
    for parameter, name in named.items():
        check_initialized(parameter, name)
        check_unflattened(parameter)
        if parameter.is_complex():
            raise ValueError(
                f"params must be real, got a {parameter.dtype} tensor of shape "
                f"{tuple(parameter.shape)}, {name}."
            )


def check_initialized(parameter: Tensor, name: str) -> None:
    """Raises ValueError for a parameter of a lazy module that has not been called yet."""
    if is_lazy(parameter):
        raise ValueError(
            f"params must have shapes, which decide on blocks, got {name}, an "
            f"{nn.UninitializedParameter.__name__}: call the model once, on any batch, before "
            "the optimizer is made."
        )


def warn_of_meta(groups: Sequence[dict[str, Any]]) -> None:
    """Warns, in a step without gradients, of a parameter that its model may have replaced."""
    for group in groups:
        for parameter, name in zip(group["params"], parameter_names(group), strict=True):
            if parameter.is_meta:
                warnings.warn(
                    f"step() finds no gradient, and {name} is on the meta device. A model that "
                    "has since been given memory, by to_empty() or load_state_dict(assign=True), "
                    "has new parameters: make the optimizer after that.",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return
