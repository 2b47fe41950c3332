"""Bringing together the state that owners hold, for a checkpoint that knows of no ranks."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..plan.blocking import StackSpec
from . import state
from .config import StateConfig
from .kept import Kept
from .layout import Layout
from .placement import Placement, is_dtensor, local
from .stack_group import StackGroup

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class _Manifest:
    """What an owner's stacks hold.

    Attributes:
      tensors: (name, shape, dtype) of each state tensor, for each stack.
      seen: for each stack and member, whether it has had a gradient.
    """

    tensors: list[list[tuple[str, tuple[int, ...], torch.dtype]]]
    seen: list[list[bool]]


def exported(
    kept: Kept, parameters: Sequence[Tensor], held: Mapping[Tensor, Any]
) -> defaultdict[Tensor, dict[str, Any]]:
    """State of one parameter group as this rank has it, in tensors of its own.

    Args:
      kept: what is kept of the group.
      parameters: the group's.
      held: `Optimizer.state`, for what others have put there or what was loaded.
    """
    found: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
    stacked: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
    if kept.layout is not None:
        state.save(kept.layout.stacks, parameters, stacked)
    for parameter in parameters:
        entry = {**state.others(held.get(parameter, {})), **stacked[parameter]}
        if kept.averager is not None:
            tensors = kept.averager.state_tensors(local(parameter))
            entry.update({name: tensor.clone() for name, tensor in tensors.items()})
        if entry:
            found[parameter] = entry
    return found


def gathered(
    kept: Kept, parameters: Sequence[Tensor], held: Mapping[Tensor, Any], wanted: bool
) -> defaultdict[Tensor, dict[str, Any]]:
    """The same of all ranks, in the memory of the CPU; a collective.

    Args:
      kept, parameters, held: as for `exported`.
      wanted: whether this rank is to have it; it is empty elsewhere.
    """
    found: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
    if kept.layout is not None:
        found.update(_gather(kept.layout, parameters, wanted))
    for parameter in parameters:
        tensors = kept.averager.state_tensors(local(parameter)) if kept.averager else {}
        averages = {name: _whole(tensor, parameter) for name, tensor in tensors.items()}
        entry = {**averages, **state.others(held.get(parameter, {}))}
        if wanted and entry:
            found[parameter].update(entry)
    return found


def _gather(
    layout: Layout, parameters: Sequence[Tensor], wanted: bool
) -> defaultdict[Tensor, dict[str, Any]]:
    """What `state.save` writes, of all owners.

    One owner after the other sends what it has to all ranks that hold the same parameters, so that
    no more than one share is on its way.
    """
    found: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
    for stacks, owned in zip(layout.stacks, layout.owned, strict=True):
        stacks.refresher.collect()
        for owner, layouts in enumerate(owned):
            manifest, flat = _sent_by(owner, stacks)
            if wanted:
                shell = _shell(layouts, stacks, layout.config, manifest, flat)
                state.save([shell], parameters, found)
    return found


def _sent_by(owner: int, stacks: StackGroup) -> tuple[_Manifest, Tensor]:
    """What an owner's stacks hold, the bytes of all tensors one after the other."""
    placement, mine = stacks.placement, stacks.placement.owner == owner
    box: list[_Manifest | None] = [None]
    tables = [stack.state_tensors() for stack in stacks.stacks] if mine else []
    if mine:
        box[0] = _Manifest(
            [[(name, tuple(t.shape), t.dtype) for name, t in table.items()] for table in tables],
            [[stacks.counters.has_seen(m) for m in s.layout.parts] for s in stacks.stacks],
        )
    for source, group in _route(placement, owner):
        dist.broadcast_object_list(box, source, group, device=stacks.device)
    manifest = box[0]
    assert manifest is not None
    sizes = [_size(shape, dtype) for table in manifest.tensors for _, shape, dtype in table]
    flat = torch.empty(sum(sizes), dtype=torch.uint8, device=stacks.device)
    if mine:
        tensors = [tensor for table in tables for tensor in table.values()]
        for part, tensor in zip(flat.split(sizes), tensors, strict=True):
            part.copy_(tensor.contiguous().view(-1).view(torch.uint8))
    for source, group in _route(placement, owner):
        if len(flat):
            dist.broadcast(flat, source, group)
    return manifest, flat


def _route(placement: Placement, owner: int) -> Iterator[tuple[int, "ProcessGroup"]]:
    """The broadcasts that this rank takes part in, as (global rank of the source, group).

    First within the owner's replica, then from that replica to the others.
    """
    replica, shard = divmod(owner, placement.shards)
    if placement.shard_group is not None and placement.replica == replica:
        yield dist.get_global_rank(placement.shard_group, shard), placement.shard_group
    if placement.replica_group is not None:
        yield dist.get_global_rank(placement.replica_group, replica), placement.replica_group


def _shell(
    layouts: Sequence[StackSpec],
    like: StackGroup,
    config: StateConfig,
    manifest: _Manifest,
    flat: Tensor,
) -> StackGroup:
    """An owner's stacks, here."""
    shell = StackGroup(layouts, like.indices, config, like.dtype, _CPU)
    flat, start = flat.to(_CPU), 0
    for stack, entries, seen in zip(shell.stacks, manifest.tensors, manifest.seen, strict=True):
        state.make_room(stack, {name for name, _, _ in entries})
        tensors = stack.state_tensors()
        for name, shape, dtype in entries:
            part = flat.narrow(0, start, _size(shape, dtype))
            # A view in another dtype must begin at a multiple of its size.
            tensors[name].copy_(part.clone().view(dtype).view(shape))
            start += len(part)
        for member, has_seen in zip(stack.layout.parts, seen, strict=True):
            if has_seen:
                shell.counters.mark_seen(member)
    return shell


def _size(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Bytes of a tensor."""
    return math.prod(shape) * dtype.itemsize


def _whole(tensor: Tensor, parameter: Any) -> Tensor:
    """All of what an averager keeps of a parameter, in the CPU's memory; a collective.

    What has not the shape of the rank's part is a number that all ranks share.
    """
    if not is_dtensor(parameter) or tensor.shape != local(parameter).shape:
        return tensor.to(_CPU, copy=True)
    from torch.distributed.tensor import DTensor

    sharded = DTensor.from_local(
        tensor,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
    return sharded.full_tensor().to(_CPU, copy=True)
