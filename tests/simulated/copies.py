"""Copies between a pretended device and the host: asynchronous from and to pinned memory alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tests.simulated.memory import memory_of
from tests.simulated.order import current_stream, drain
from tests.simulated.tensors import HostTensor, SimTensor

COPIES = {"copy_", "_to_copy", "_foreach_copy_"}


def is_simulated(device: Any) -> bool:
    """Whether a device, however it is named, is the pretended one."""
    return torch.device(device).type == "sim"


def copy(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Runs a copying operator; `NotImplemented` for those within one device."""
    if name == "_to_copy":
        return _to_copy(args[0], dict(kwargs))
    non_blocking = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
    single = name == "copy_"
    pairs = [(args[0], args[1])] if single else list(zip(args[0], args[1], strict=True))
    if all(isinstance(a, SimTensor) == isinstance(b, SimTensor) for a, b in pairs):
        return NotImplemented
    for target, source in pairs:
        _copy_between(target, source, non_blocking)
    return args[0] if single else None


def _to_copy(source: Tensor, kwargs: dict[str, Any]) -> Any:
    device, non_blocking = kwargs.pop("device", None), kwargs.pop("non_blocking", False)
    to_device = isinstance(source, SimTensor) if device is None else is_simulated(device)
    if to_device == isinstance(source, SimTensor):
        return NotImplemented
    kwargs.pop("pin_memory", None)
    # A real device casts on whichever side is the smaller; the values are the same.
    target: Any = torch.ops.aten._to_copy.default(_values(source), **kwargs)
    if to_device:
        target = SimTensor(target)
    elif non_blocking:  # torch makes what it copies to, and pins it
        target = HostTensor(target)
    _note(target, source, non_blocking)
    return target


def _copy_between(target: Tensor, source: Tensor, non_blocking: bool) -> None:
    _note(target, source, non_blocking)
    _values(target).copy_(_values(source))


def _values(tensor: Tensor) -> Tensor:
    return tensor.raw if isinstance(tensor, (SimTensor, HostTensor)) else tensor


def _note(target: Tensor, source: Tensor, non_blocking: bool) -> None:
    """Notes one copy from or to the device."""
    stream, operator = current_stream(), "copy"
    host = source if isinstance(target, SimTensor) else target
    pinned = host.memory if isinstance(host, HostTensor) else None
    if pinned is not None:
        (pinned.read if host is source else pinned.write)(operator)
    stream.enqueue(operator)
    if isinstance(target, SimTensor):
        memory_of(target.raw, stream).write(stream, operator)
    else:
        assert isinstance(source, SimTensor)
        source.memory.read(stream, operator)
    if pinned is None or not non_blocking:
        drain("copy to the device" if host is source else "copy to the host")
    elif host is source:
        pinned.drain(stream)
    else:
        pinned.fill(stream)
