"""A pretended accelerator, "sim:0": real values, computed on the CPU under the rules of a device.

    with simulated() as record:
        weight = on_device(torch.eye(3))
        weight.sum().item()
    record.waits  # one, of _local_scalar_dense

Two devices cannot be mixed in an operator, not even by a scalar; whatever makes the host wait is
recorded with its place; memory that is used by two streams in no certain order is an error.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch.utils import backend_registration

from tests.simulated import order
from tests.simulated.generators import SimGenerator
from tests.simulated.operators import SimMode
from tests.simulated.record import RECORD, Record
from tests.simulated.tensors import HostTensor

_SETUP = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
_REAL_TENSOR = torch.tensor


class _Backend:
    """What `torch.get_device_module("sim")` returns."""

    Stream, Event = order.Stream, order.Event
    current_stream = staticmethod(order.current_stream)
    default_stream = staticmethod(order.default_stream)
    stream = staticmethod(order.stream)
    synchronize = staticmethod(order.synchronize)
    active = False

    def is_initialized(self) -> bool:
        """True."""
        return True

    def is_available(self) -> bool:
        """Whether there is a device; not outside of `simulated`."""
        return self.active

    def device_count(self) -> int:
        """How many."""
        return 1

    def current_device(self) -> int:
        """The index of the only one."""
        return 0

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """The dtypes of autocast."""
        return [torch.bfloat16, torch.float16]

    def manual_seed_all(self, seed: int) -> None:
        """Does nothing: operators without a generator take the CPU's."""

    def _is_in_bad_fork(self) -> bool:
        return False


def _tensor(data: Any, *, pin_memory: bool = False, **options: Any) -> Any:
    """`torch.tensor`, which otherwise copies and pins out of reach of a mode."""
    device = options.get("device")
    if device is not None and torch.device(device).type == "sim":
        return _tensor(data, **{**options, "device": "cpu"}).to(device)
    made = _REAL_TENSOR(data, **options)
    return HostTensor(made) if pin_memory else made


_backend: list[_Backend] = []


def _register() -> _Backend:
    """Registers the device once per process; it cannot be undone."""
    if not _backend:
        # Imported while operators are still torch's own.
        import torch._dynamo
        import torch.nn.parallel

        if _SETUP is None:
            pytest.skip("devices in Python need torch 2.9")
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        if accelerator is not None:
            pytest.skip(f"a pretended device would take the place of {accelerator}")
        _backend.append(_Backend())
        _SETUP("sim", backend_module=_backend[0])
    return _backend[0]


@contextlib.contextmanager
def simulated() -> Iterator[Record]:
    """Runs all operators in the context under the rules of the device; clears the record.

    Raises:
      AssertionError: at the end, if memory was freed while a stream used it.
    """
    backend = _register()
    RECORD.clear()
    RECORD.faults.clear()
    patches = [
        mock.patch.object(torch, "tensor", _tensor),
        mock.patch.object(torch, "Generator", SimGenerator),
        mock.patch.object(backend, "active", True),
    ]
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        with SimMode():
            yield RECORD
    assert not RECORD.faults, RECORD.faults
