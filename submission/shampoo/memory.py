"""Tensors of several stacks that are adjacent in memory, so that one kernel can serve them all."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Memory:
    """Zeroed tensors by name, one for each of some stacks; those of a name are one flat tensor.

    A name's tensors are made when they are first asked for.

    Args:
      shapes: [N, m, n] of each stack.
      dtype, device: of all tensors.

    Attributes:
      elements: of all stacks together.

    >>> memory = Memory([(2, 3, 4), (1, 5, 5)], torch.float32, torch.device("cpu"))
    >>> memory.view("buffer", 0).fill_(1).shape, memory.flat("buffer").sum().item()
    (torch.Size([2, 3, 4]), 24.0)
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int, int]], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._shapes = shapes
        self._dtype, self._device = dtype, device
        sizes = [math.prod(shape) for shape in shapes]
        self._starts = [0, *itertools.accumulate(sizes)]
        self.elements = self._starts.pop()
        self._flats: dict[str, Tensor] = {}
        self._views: dict[str, list[Tensor]] = {}

    def has(self, name: str) -> bool:
        """Whether tensors of that name have been made."""
        return name in self._flats

    def flat(self, name: str) -> Tensor:
        """All elements of a name, [elements]."""
        if name not in self._flats:
            self.put(name, torch.zeros(self.elements, dtype=self._dtype, device=self._device))
        return self._flats[name]

    def view(self, name: str, number: int) -> Tensor:
        """The tensor of a stack, [N, m, n]; the same object at every call."""
        self.flat(name)
        return self._views[name][number]

    def put(self, name: str, flat: Tensor) -> None:
        """Takes other memory for a name, [elements], which must be contiguous."""
        self._views[name], self._flats[name] = self.split(flat), flat

    def split(self, flat: Tensor) -> list[Tensor]:
        """Each stack's part of a flat tensor, [N, m, n]; of a name's, the tensors of `view`."""
        for name, known in self._flats.items():
            if flat is known:
                return self._views[name]
        first = flat.storage_offset()
        return [
            flat.as_strided(shape, (shape[1] * shape[2], shape[2], 1), first + start)
            for shape, start in zip(self._shapes, self._starts, strict=True)
        ]
