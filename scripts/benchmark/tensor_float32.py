"""Emulation of matrix products that round their factors, for devices without them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_FIRST_FACTOR = {
    **dict.fromkeys(("mm", "bmm"), 0),
    **dict.fromkeys(("addmm", "baddbmm", "addmm_", "baddbmm_"), 1),
}
_FLOAT32_BITS = 23


class TensorFloat32(TorchDispatchMode):
    """Within it, float32 matrix products round their factors to the 10 bits of TF32.

    The products are summed up in float32, as on a GPU. What is added to a product is not rounded.

    Args:
      bits: of a mantissa behind its point; 7 for bfloat16.
      always: whether products round whatever torch's setting for CUDA is; else only where that
        allows it.

    >>> third = torch.full((1, 1), 1 / 3)
    >>> with TensorFloat32():
    ...     (third @ torch.ones(1, 1)).item()
    0.333251953125
    """

    def __init__(self, bits: int = 10, always: bool = True) -> None:
        super().__init__()
        self._bits, self._always = bits, always

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name: str = getattr(func, "overloadpacket", func).__name__
        first = _FIRST_FACTOR.get(name)
        rounds = first is not None and (self._always or _is_allowed())
        if first is not None and rounds and args[first].dtype == torch.float32:
            factors = [_rounded(factor, self._bits) for factor in args[first : first + 2]]
            args = [*args[:first], *factors, *args[first + 2 :]]
        return func(*args, **(kwargs or {}))


def _is_allowed() -> bool:
    matmul: Any = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):
        return str(matmul.fp32_precision) == "tf32"
    return bool(matmul.allow_tf32)  # until torch 2.8


def _rounded(tensor: Tensor, bits: int) -> Tensor:
    dropped = _FLOAT32_BITS - bits
    image = tensor.contiguous().view(torch.int32) + (1 << (dropped - 1))
    return image.bitwise_and_(-(1 << dropped)).view(torch.float32)
