"""The modes in which the optimizer computes, whatever its caller's are."""

import contextlib
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from .devices import autocast_kinds

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_full_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Runs a function without gradients, and without what its caller may have switched on.

    Autocast would round its products, and of inference mode state would remain that no later step
    could change.
    """

    @functools.wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with torch.inference_mode(mode=False), torch.no_grad(), contextlib.ExitStack() as stack:
            for kind in autocast_kinds():
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            return function(*args, **kwargs)

    return wrapped
