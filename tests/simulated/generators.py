"""Generators of a pretended device, whose numbers are those of the CPU's."""

import weakref
from typing import Any

import torch

_REAL = torch.Generator
# By address: operators see the generator as C++ has it, without its Python object.
_of_device: "weakref.WeakValueDictionary[int, SimGenerator]" = weakref.WeakValueDictionary()


class SimGenerator(_REAL):
    """A generator of the CPU that may say it is of the device."""

    def __new__(cls, device: Any = "cpu") -> "SimGenerator":
        real = torch.device(device)
        made = super().__new__(cls, "cpu" if real.type == "sim" else real)
        made._device = real
        if real.type == "sim":
            _of_device[made._cdata] = made
        return made

    @property
    def device(self) -> torch.device:
        """Where its numbers go."""
        return self._device


def is_of_device(generator: torch.Generator) -> bool:
    """Whether a generator was made for the device."""
    return generator._cdata in _of_device
