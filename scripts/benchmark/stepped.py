"""An optimizer with weights and fixed gradients, and the memory that it takes."""

import gc
import types
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scripts.benchmark.model_shapes import Shapes
from scripts.local.rivals import Rival, RivalOptions

GRADIENT_SETS = 3


def gradients(shapes: Shapes, device: torch.device) -> list[list[Tensor]]:
    """Fixed random gradients, `GRADIENT_SETS` lists of one float32 tensor per parameter.

    Normal, with rows and columns (of dimension 0 by the rest) scaled log-uniformly over two decades
    from set to set, so that factors are neither round nor of full rank.
    """
    generator = torch.Generator().manual_seed(0)
    return [
        [_gradient(shape, generator).to(device) for shape in shapes.values()]
        for _ in range(GRADIENT_SETS)
    ]


def _gradient(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    grad = torch.randn(shape, generator=generator)
    matrix = grad.view(shape[0], -1)
    for size in ((matrix.shape[0], 1), (1, matrix.shape[1])):
        matrix.mul_(10 ** (2 * torch.rand(size, generator=generator) - 1))
    return grad


def weights(shapes: Shapes, device: torch.device) -> list[torch.nn.Parameter]:
    """Fixed random float32 parameters."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator).mul_(0.02).to(device))
        for shape in shapes.values()
    ]


class SteppedOptimizer:
    """One optimizer, its weights, and gradients that it shares with the others.

    Attributes:
      rival: its name, package and constructor.
      optimizer: built for `parameters`.
    """

    def __init__(
        self,
        rival: Rival,
        shapes: Shapes,
        gradient_sets: Sequence[Sequence[Tensor]],
        options: RivalOptions,
    ) -> None:
        self.rival = rival
        self.parameters = weights(shapes, gradient_sets[0][0].device)
        self._gradient_sets = gradient_sets
        self._interval = options.interval
        self._steps = 0
        self.optimizer = rival.make(self.parameters, options)

    def prepare(self) -> bool:
        """Hands over the next gradients; returns whether the next step refreshes."""
        grads = self._gradient_sets[self._steps % len(self._gradient_sets)]
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad
        self._steps += 1
        return self.rival.refreshes_at(self._steps, self._interval)

    def step(self) -> None:
        """Takes the step that was prepared."""
        self.optimizer.step()

    def preparation(self) -> dict[str, float]:
        """What it took before the first step, where that is much: `compile_milliseconds`."""
        taken = getattr(self.optimizer, "compile_milliseconds", None)
        return {} if taken is None else {"compile_milliseconds": taken}

    def memory(self) -> dict[str, int]:
        """Bytes, each storage counted once, weights and gradients not counted.

        Returns:
          `state_bytes`: what a checkpoint holds, packed where it is packed.
          `workspace_bytes`: what else the optimizer keeps between steps.
        """
        shared = storages([self.parameters, *self._gradient_sets])
        state, total = (
            sum(size for key, size in storages([root]).items() if key not in shared)
            for root in (self.optimizer.state_dict(), self.optimizer)
        )
        return {"state_bytes": state, "workspace_bytes": max(0, total - state)}


_LEAVES = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, str, bytes, int)


def storages(roots: Sequence[Any]) -> dict[int, int]:
    """Bytes by address of all tensor storages that can be reached from Python objects."""
    sizes: dict[int, int] = {}
    seen: dict[int, Any] = {}  # Keeps the objects alive: a dead one's id could be another's.
    waiting = list(roots)
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, _LEAVES):
            continue
        seen[id(value)] = value
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            if storage.nbytes():
                sizes[storage.data_ptr()] = storage.nbytes()
        else:
            waiting += gc.get_referents(value)
    return sizes
