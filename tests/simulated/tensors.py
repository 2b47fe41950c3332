"""Tensors of a pretended device, and pinned ones of the host; their values are ordinary tensors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.simulated.memory import memory_of, pinned_memory_of
from tests.simulated.order import Stream, current_stream, drain

# Set by `operators`, which needs both classes.
dispatch: list[Callable[..., Any]] = []


class _Wrapped(Tensor):
    """A tensor around another one, which has the values."""

    raw: Tensor
    # What `device` says.
    _place: str

    @staticmethod
    def __new__(cls, raw: Tensor) -> Any:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(cls._place),
        )

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch[0](func, args, kwargs or {})

    def data_ptr(self) -> int:
        """The address of the first element."""
        return self.raw.data_ptr()


class SimTensor(_Wrapped):
    """A tensor on "sim:0".

    Args:
      raw: its values, on the CPU; not copied.
    """

    _place = "sim:0"

    def __init__(self, raw: Tensor) -> None:
        self.raw = raw
        self.memory = memory_of(raw, current_stream())

    def __repr__(self) -> str:
        return f"SimTensor({self.raw})"

    def tolist(self) -> Any:
        """As `Tensor.tolist`, for which the host waits."""
        drain("tolist")
        return self.raw.tolist()

    def record_stream(self, stream: Stream) -> None:
        """See `Memory.record_stream`."""
        self.memory.record_stream(stream)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SimTensor":
        if id(self) not in memo:
            copied = self.detach().clone().requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                copied = torch.nn.Parameter(copied, self.requires_grad)
            memo[id(self)] = copied
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        drain("pickle")
        return on_device, (self.raw.detach(), self.requires_grad)


class HostTensor(_Wrapped):
    """A tensor in pinned memory of the host; parts of it have the same memory.

    Args:
      raw: its values; not copied.
    """

    _place = "cpu"

    def __init__(self, raw: Tensor) -> None:
        self.raw = raw
        memory = pinned_memory_of(raw, make=True)
        assert memory is not None
        self.memory = memory

    def __repr__(self) -> str:
        return f"HostTensor({self.raw})"

    def is_pinned(self, device: Any = None) -> bool:
        """True."""
        return True

    def tolist(self) -> Any:
        """As `Tensor.tolist`."""
        self.memory.read("tolist")
        return self.raw.tolist()


def on_device(values: Tensor, requires_grad: bool = False) -> SimTensor:
    """A copy of values on the device, put there by no operator."""
    return SimTensor(values.detach().clone()).requires_grad_(requires_grad)


def values_of(tensor: Tensor) -> Tensor:
    """The values of a tensor of any device, for a test to look at: no wait is recorded."""
    return tensor.raw if isinstance(tensor, _Wrapped) else tensor.detach()
