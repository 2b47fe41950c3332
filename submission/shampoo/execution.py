"""The modes in which the optimizer computes, whatever its caller's are."""

import contextlib
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_AUTOCAST_DEVICES = ("cpu", "cuda")


def in_full_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Runs a function without gradients, and without autocast, which would round its products."""

    @functools.wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with torch.no_grad(), contextlib.ExitStack() as stack:
            for device in _AUTOCAST_DEVICES:
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return wrapped
