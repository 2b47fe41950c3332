"""What devices can do beside the host: CUDA, ROCm, XPU and others alike."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _foreach_utils

_STREAM_API = ("Stream", "Event", "stream", "current_stream")
_FAKE = torch._C._TorchDispatchModeKey.FAKE


@functools.cache
def _module_of(kind: str) -> Any:
    if kind in ("cpu", "meta"):  # torch.cpu has streams that are none
        return None
    try:
        module = torch.get_device_module(kind)
    except RuntimeError:  # there is none
        return None
    return module if all(hasattr(module, name) for name in _STREAM_API) else None


def has_values(device: torch.device) -> bool:
    """Whether tensors have values: not on "meta", nor on any device under torch's FakeTensorMode.

    Where they have none, a step only allocates, as memory is estimated by.

    >>> has_values(torch.device("cpu")), has_values(torch.device("meta"))
    (True, False)
    """
    return device.type != "meta" and torch._C._get_dispatch_mode(_FAKE) is None


def stream_module(device: torch.device) -> Any:
    """The module with the streams of a device, `torch.cuda` for one; None where there are none."""
    return _module_of(device.type) if has_values(device) else None


def is_host(device: torch.device) -> bool:
    """Whether the host reads a device's values without waiting.

    >>> is_host(torch.device("cpu")), is_host(torch.device("cuda"))
    (True, False)
    """
    return device.type == "cpu" and has_values(device)


def is_queued(device: torch.device) -> bool:
    """Whether the host should read no value: a device works off a queue beside it, or has none.

    >>> is_queued(torch.device("cpu")), is_queued(torch.device("cuda"))
    (False, True)
    """
    return _module_of(device.type) is not None or not has_values(device)


def is_capturing(device: torch.device) -> bool:
    """Whether what is called now is recorded to be replayed, not run."""
    query = getattr(stream_module(device), "is_current_stream_capturing", None)
    return query is not None and bool(query())


def has_addresses(device: torch.device) -> bool:
    """Whether the tensors of a device have addresses, by which they can be told apart."""
    return is_host(device) or stream_module(device) is not None


@functools.cache
def has_fused_adam(kind: str) -> bool:
    """Whether torch has fused Adam kernels for a kind of device."""
    known = _foreach_utils._get_fused_kernels_supported_devices()
    return kind == "cpu" or (kind in known and _module_of(kind) is not None)


def autocast_kinds() -> Sequence[str]:
    """The kinds of devices on which autocast may be enabled: the CPU and the accelerator."""
    if hasattr(torch, "accelerator"):  # from torch 2.6 on
        accelerator = torch.accelerator.current_accelerator()
    else:
        accelerator = torch._C._get_accelerator()
    if accelerator is None or accelerator.type == "cpu" or not _has_autocast(accelerator.type):
        return ("cpu",)
    return ("cpu", accelerator.type)


@functools.cache
def _has_autocast(kind: str) -> bool:
    return torch.amp.is_autocast_available(kind)


def scalar_for(value: float | Tensor, device: torch.device) -> float | Tensor:
    """A number as operators of a device take it: a tensor of the CPU as a float, others as scalars.

    Args:
      value: a number, or a tensor with one element on the CPU or on the device.
      device: of the operators.
    """
    if not isinstance(value, Tensor):
        return value
    if value.device.type == "cpu" and device.type != "cpu":
        return float(value)
    return value.reshape(())


def is_true(flag: Tensor, otherwise: bool) -> bool:
    """What a boolean scalar says, for which the host waits; `otherwise` where it has no value.

    >>> is_true(torch.ones((), dtype=torch.bool, device="meta"), otherwise=False)
    False
    """
    return bool(flag) if has_values(flag.device) else otherwise


def to_list(tensor: Tensor) -> Any:
    """`tensor.tolist()`, for which the host waits; zeros where tensors have no values.

    >>> to_list(torch.ones(2, 1)), to_list(torch.ones(2, 1, device="meta"))
    ([[1.0], [1.0]], [[0], [0]])
    """
    if has_values(tensor.device):
        return tensor.tolist()
    zeros: Any = 0
    for size in reversed(tensor.shape):
        zeros = [zeros] * size
    return zeros


def seeded(seed: int, device: torch.device) -> torch.Generator | None:
    """A generator of a device with a seed; None where tensors have no values."""
    return torch.Generator(device).manual_seed(seed) if has_values(device) else None


def to_device(
    values: Sequence[Any], device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """Numbers as a tensor of a device; the host does not wait for it.

    Args:
      values: numbers, or rows of numbers.
      device: where they go.
      dtype: None for the one of such numbers in torch.

    >>> to_device([True, False], torch.device("cpu"))
    tensor([ True, False])
    """
    # From pageable memory a copy would begin after all that is queued, and the host wait for it.
    is_pinned = stream_module(device) is not None
    host = torch.tensor(values, dtype=dtype, device="cpu", pin_memory=is_pinned)
    return host.to(device, non_blocking=True)
