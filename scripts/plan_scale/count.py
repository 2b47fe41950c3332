"""Counts what code does with tensors, on the meta device as on any other: work, traffic, memory."""

import dataclasses
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_ALLOCATIONS = (_aten.empty, _aten.new_empty, _aten.empty_like, _aten.empty_strided)
# What these change they do not read.
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


class Count(TorchDispatchMode):
    """Within this context, counts the operators that are called from this thread.

    Attributes:
      kernels: all but views, allocations and communication, in order.
      sent: bytes that go to others, by the ranks of the process group.
      peak: most bytes that lived at one time of what was allocated here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[Kernel] = []
        self.sent: Counter[tuple[int, ...]] = Counter()
        self.peak = 0
        self._live = 0
        self._holders: Counter[int] = Counter()

    @property
    def flops(self) -> int:
        """Of all matrix products."""
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def bytes(self) -> int:
        """Read and written by all kernels."""
        return sum(kernel.bytes for kernel in self.kernels)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        given = list(_tensors((args, kwargs or {})))
        made = list(_tensors(result))
        if func.namespace == "c10d":
            self._note_sent(func, args)
        elif not func.is_view and func.overloadpacket not in _ALLOCATIONS and given:
            read = given
            if func.overloadpacket in _OVERWRITES:
                read = list(_tensors(args[1:]))
                made = list(_tensors(args[:1]))
            elif not made:  # a _foreach operator in place
                made = list(_tensors(args[:1]))
            moved = sum(map(_bytes, read)) + sum(map(_bytes, made))
            self.kernels.append(Kernel(_product_flops(func, args), moved, given[0].dtype))
        self._watch({_storage(tensor) for tensor in given}, _tensors(result))
        return result

    def _note_sent(self, func: Any, args: tuple[Any, ...]) -> None:
        sent, group = args[1], dist.ProcessGroup.unbox(args[2])
        ranks, mine = tuple(dist.get_process_group_ranks(group)), dist.get_rank(group)
        if func.overloadpacket == torch.ops.c10d._allgather_base_:
            self.sent[ranks] += _bytes(sent) * (len(ranks) - 1)
        elif func.overloadpacket == torch.ops.c10d.alltoall_base_:
            rows = sum(args[4]) - args[4][mine]
            self.sent[ranks] += rows * sent.itemsize
        else:
            raise NotImplementedError(f"{func} is not counted.")

    def _watch(self, given: set[int], made: Iterator[Tensor]) -> None:
        """Follows storages until the last tensor that uses them is gone."""
        for tensor in made:
            key = _storage(tensor)
            if key in given and key not in self._holders:
                continue
            size = tensor.untyped_storage().nbytes()
            if key not in self._holders:
                self._live += size
                self.peak = max(self.peak, self._live)
            self._holders[key] += 1
            weakref.finalize(tensor, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            del self._holders[key]
            self._live -= size


def storage_bytes(things: Any) -> int:
    """Bytes of all tensors in nested containers, each storage counted once."""
    sizes = {_storage(tensor): tensor.untyped_storage().nbytes() for tensor in _tensors(things)}
    return sum(sizes.values())


def _tensors(things: Any) -> Iterator[Tensor]:
    # As `torch.utils._pytree.tree_leaves` would, at a tenth of its time for long lists.
    if isinstance(things, Tensor):
        yield things
    elif isinstance(things, dict):
        for thing in things.values():
            yield from _tensors(thing)
    elif isinstance(things, list | tuple):
        for thing in things:
            yield from _tensors(thing)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.itemsize


def _storage(tensor: Tensor) -> int:
    # On the meta device no storage has an address.
    return int(tensor.untyped_storage()._cdata)


def _product_flops(func: Any, args: tuple[Any, ...]) -> int:
    name = func.overloadpacket.__name__.rstrip("_")
    if name in ("mm", "bmm"):
        left, right = args[:2]
    elif name in ("addmm", "baddbmm"):
        left, right = args[1:3]
    else:
        return 0
    return 2 * left.numel() * int(right.shape[-1])
