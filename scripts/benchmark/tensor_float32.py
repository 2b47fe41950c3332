"""Emulation of TF32 matrix products for devices without them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_FIRST_FACTOR = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}


class TensorFloat32(TorchDispatchMode):
    """Within it, float32 matrix products round their factors to the 10 bits of TF32.

    The products are summed up in float32, as on a GPU. What is added to a product is not rounded.

    >>> third = torch.full((1, 1), 1 / 3)
    >>> with TensorFloat32():
    ...     (third @ torch.ones(1, 1)).item()
    0.333251953125
    """

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name: str = getattr(func, "overloadpacket", func).__name__
        first = _FIRST_FACTOR.get(name)
        if first is not None and args[first].dtype == torch.float32:
            args = [*args[:first], *map(_rounded, args[first : first + 2]), *args[first + 2 :]]
        return func(*args, **(kwargs or {}))


def _rounded(tensor: Tensor) -> Tensor:
    bits = tensor.contiguous().view(torch.int32) + (1 << 12)
    return bits.bitwise_and_(-(1 << 13)).view(torch.float32)
