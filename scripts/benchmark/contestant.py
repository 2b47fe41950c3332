"""An optimizer with its own weights, as benchmarks step it; its memory and its kernels counted."""

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from scripts.benchmark.network_shapes import Shapes
from scripts.local.rivals import Rival, RivalOptions

GRADIENT_SETS = 3


def gradients(shapes: Shapes, device: torch.device, seed: int = 0) -> list[list[Tensor]]:
    """Fixed random gradients, `GRADIENT_SETS` lists of one float32 tensor per parameter.

    Normal, with rows and columns (of dimension 0 by the rest) scaled log-uniformly over two decades
    from set to set, so that factors are neither round nor of full rank.
    """
    generator = torch.Generator().manual_seed(seed)
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


class Contestant:
    """One optimizer, its weights, and gradients that it shares with the others.

    Attributes:
      rival: what it is.
      optimizer: built for `parameters`.
      failure: why it takes no more steps, or None.
    """

    def __init__(
        self,
        rival: Rival,
        shapes: Shapes,
        gradient_sets: Sequence[Sequence[Tensor]],
        options: RivalOptions,
    ) -> None:
        generator = torch.Generator().manual_seed(1)
        device = gradient_sets[0][0].device
        self.rival = rival
        self.parameters = [
            torch.nn.Parameter(torch.randn(shape, generator=generator).mul_(0.02).to(device))
            for shape in shapes.values()
        ]
        self.failure: str | None = None
        self._gradient_sets = gradient_sets
        self._interval = options.interval
        self._taken = 0
        self.optimizer = rival.make(self.parameters, options)

    def prepare(self) -> bool:
        """Hands over the next gradients; returns whether the next step refreshes."""
        grads = self._gradient_sets[self._taken % len(self._gradient_sets)]
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad
        self._taken += 1
        return self.rival.refreshes_at(self._taken, self._interval)

    def step(self) -> None:
        """Takes the step that was prepared."""
        self.optimizer.step()

    def memory(self) -> dict[str, int]:
        """Bytes held, each storage counted once, weights and gradients not counted.

        Returns:
          `state_bytes`: what a checkpoint holds, packed where it is packed.
          `workspace_bytes`: what else the optimizer keeps between steps.
        """
        given = {
            id_
            for tensor in (*self.parameters, *(g for grads in self._gradient_sets for g in grads))
            for id_ in _storages([tensor])
        }
        state = _bytes(_storages([self.optimizer.state_dict()]), given)
        held = _bytes(_storages([self.optimizer]), given)
        return {"state_bytes": state, "workspace_bytes": max(0, held - state)}

    def release(self) -> None:
        """Drops weights and optimizer."""
        self.parameters, self._gradient_sets = [], []
        del self.optimizer


def _bytes(storages: Mapping[int, int], without: Iterable[int]) -> int:
    left_out = set(without)
    return sum(size for id_, size in storages.items() if id_ not in left_out)


def _storages(roots: Sequence[Any]) -> dict[int, int]:
    """Bytes by address of all tensor storages reachable from objects, through Python objects."""
    found: dict[int, int] = {}
    seen: dict[int, Any] = {}  # The things too: a dead one's id could be another's.
    waiting = list(roots)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, _LEAVES):
            continue
        seen[id(thing)] = thing
        if isinstance(thing, Tensor):
            storage = thing.untyped_storage()
            if storage.nbytes():
                found[storage.data_ptr()] = storage.nbytes()
        elif isinstance(thing, Mapping):
            waiting += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset):
            waiting += thing
        else:
            waiting += getattr(thing, "__dict__", {}).values()
            waiting += [getattr(thing, slot) for slot in _slots(thing) if hasattr(thing, slot)]
    return found


def _slots(thing: Any) -> list[str]:
    declared = [vars(kind).get("__slots__", ()) for kind in type(thing).__mro__]
    return [name for names in declared for name in ([names] if isinstance(names, str) else names)]


_LEAVES = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, str, bytes, int)


_NO_WORK = (torch.ops.aten._unsafe_view, torch.ops.aten.empty, torch.ops.aten.empty_strided)


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operators = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        if func.namespace == "aten" and not func.is_view and func.overloadpacket not in _NO_WORK:
            self.operators += 1
        return func(*args, **(kwargs or {}))


def operators(call: Callable[[], Any]) -> int:
    """Operators but views that a call dispatches from this thread: on a CPU about its kernels."""
    with _Count() as count:
        call()
    return count.operators


def cuda_activity(call: Callable[[], Any]) -> dict[str, int]:
    """Kernels that a call launches on the GPU, and how often the host waits for it meanwhile."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        call()
    events = list(profiled.events() or [])
    on_gpu = [event.name for event in events if event.device_type == DeviceType.CUDA]
    # Not cudaDeviceSynchronize: the profiler itself ends with one.
    waits = ("cudaStreamSynchronize", "cudaEventSynchronize")
    return {
        "kernels": sum(not name.startswith(("Memcpy", "Memset")) for name in on_gpu),
        "synchronisations": sum(event.name in waits for event in events),
    }
