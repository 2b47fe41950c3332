"""Counters of dispatched operators, of their floating-point operations, memory and messages."""

import dataclasses
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_ALLOCATIONS = (_aten.empty, _aten.new_empty, _aten.empty_like, _aten.empty_strided)
# No kernel runs for these.
_NO_WORK = (_aten._unsafe_view, _aten.empty, _aten.empty_strided)
# Operators that do not read what they change.
_OVERWRITES = (_aten.copy_, _aten._foreach_copy_, _aten.zero_, _aten.fill_)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One operator.

    Attributes:
      flops: floating-point operations of matrix products; 0 for all other operators.
      bytes: of memory, each operand read once and each result written once.
      dtype: of the first operand.
    """

    flops: int
    bytes: int
    dtype: torch.dtype


class OperatorCount(TorchDispatchMode):
    """Within this context, counts the operators that this thread dispatches.

    Attributes:
      operators: of torch's own, views and allocations not counted.
      dispatched: all of torch's own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators = 0
        self.dispatched = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.namespace == "aten":
            self.dispatched += 1
            self.operators += not func.is_view and func.overloadpacket not in _NO_WORK
        return result


class WorkCount(OperatorCount):
    """Counts floating-point operations, memory and messages as well, on the meta device too.

    Attributes:
      kernels: operators with a tensor among their arguments, in order; without communication.
      sent: bytes that go to other ranks, by the ranks of the process group.
      peak: the most bytes that lived at one time of what was allocated here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[Kernel] = []
        self.sent: Counter[tuple[int, ...]] = Counter()
        self.peak = 0
        self._live = 0
        self._references: Counter[int] = Counter()

    @property
    def flops(self) -> int:
        """Floating-point operations of all matrix products."""
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def bytes(self) -> int:
        """Bytes that all kernels read and write."""
        return sum(kernel.bytes for kernel in self.kernels)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        operands, results = list(_tensors((args, kwargs or {}))), list(_tensors(result))
        if func.namespace == "c10d":
            self._count_sent(func, args)
        elif not func.is_view and func.overloadpacket not in _ALLOCATIONS and operands:
            read, written = operands, results
            if func.overloadpacket in _OVERWRITES:
                read, written = list(_tensors(args[1:])), list(_tensors(args[:1]))
            elif not written:  # a _foreach operator in place
                written = list(_tensors(args[:1]))
            moved = sum(tensor.nbytes for tensor in (*read, *written))
            self.kernels.append(Kernel(_product_flops(func, args), moved, operands[0].dtype))
        self._track({_storage(tensor) for tensor in operands}, results)
        return result

    def _count_sent(self, func: Any, args: tuple[Any, ...]) -> None:
        sent, group = args[1], dist.ProcessGroup.unbox(args[2])
        ranks, rank = tuple(dist.get_process_group_ranks(group)), dist.get_rank(group)
        if func.overloadpacket == torch.ops.c10d._allgather_base_:
            self.sent[ranks] += sent.nbytes * (len(ranks) - 1)
        elif func.overloadpacket == torch.ops.c10d.alltoall_base_:
            self.sent[ranks] += (sum(args[4]) - args[4][rank]) * sent.itemsize
        else:
            raise NotImplementedError(f"{func} is not counted.")

    def _track(self, operands: set[int], results: list[Tensor]) -> None:
        """Follows new storages until the last tensor that uses them is gone."""
        for tensor in results:
            key, size = _storage(tensor), tensor.untyped_storage().nbytes()
            if key not in self._references:
                if key in operands:
                    continue
                self._live += size
                self.peak = max(self.peak, self._live)
            self._references[key] += 1
            weakref.finalize(tensor, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._references[key] -= 1
        if not self._references[key]:
            del self._references[key]
            self._live -= size


def storage_bytes(containers: Any) -> int:
    """Bytes of all tensors in nested containers, each storage counted once."""
    return sum({_storage(t): t.untyped_storage().nbytes() for t in _tensors(containers)}.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    # `torch.utils._pytree.tree_leaves` takes ten times as long for long lists.
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _storage(tensor: Tensor) -> int:
    # On the meta device no storage has an address.
    return int(tensor.untyped_storage()._cdata)


def _product_flops(func: Any, args: tuple[Any, ...]) -> int:
    first = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}.get(
        func.overloadpacket.__name__.rstrip("_")
    )
    return 0 if first is None else 2 * args[first].numel() * int(args[first + 1].shape[-1])


def operators(call: Callable[[], Any]) -> int:
    """Number of operators but views that a call dispatches; on a CPU about its kernels."""
    with OperatorCount() as count:
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
