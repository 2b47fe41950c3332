"""From stacks to per-parameter state that knows of no stacks and no ranks, and back."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..plan.blocking import Part, StackSpec
from .config import StateConfig
from .devices import is_true
from .group_state import GroupState
from .loading import is_of_adam
from .parameter_state import entries_of, foreign_entries, load_rows, save_rows, stacked_parts
from .placed_stacks import PlacedStacks
from .placement import Placement, is_dtensor, local, part_of
from .preconditioners import Preconditioner
from .stack import Stack

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_CPU = torch.device("cpu")


def save(
    placed_stacks: Sequence[PlacedStacks],
    parameters: Sequence[Tensor],
    state: Any,
    chosen: Container[Tensor],
) -> None:
    """Writes copies of the stacks' rows into `state[parameter]`, for the chosen parameters.

    Each parameter that has had a gradient has `step`, a float scalar, and in its own shape
    whichever exist of `exp_avg`, `exp_avg_sq` (of grafting, or of the diagonal method),
    `basis_sq` (SOAP's) and `momentum_buffer`. For the i-th of its grids it has `left.i`, `right.i`
    and what belongs to them, `left_root.i`, `left_basis.i` and so on, one row per block; symmetric
    matrices are rows of `SymmetricStack.storage`. Moments of SOAP and KL-Shampoo are in the basis.
    """
    for group in placed_stacks:
        group.refresher.collect()
    for group, stack, part in stacked_parts(placed_stacks):
        parameter = parameters[part.index]
        if not group.counters.has_state(part) or parameter not in chosen:
            continue
        for key, rows in entries_of(stack, part):
            save_rows(key, rows, part, parameter, state[parameter])


def load(
    placed_stacks: Sequence[PlacedStacks],
    parameters: Sequence[Tensor],
    state: Any,
    new_blocks: Container[Tensor] = (),
) -> None:
    """Fills stacks from `state[parameter]`; parameters without a `step` there start anew.

    State of AdamW has moments alone: factors begin with the next gradient.

    Args:
      new_blocks: parameters whose state is of other blocks, and has its moments in the parameter's
        coordinates; factors then begin with the next gradient, as if it was the first.

    Raises:
      ValueError: if a tensor is missing or its shape does not fit.
    """
    restored: dict[Preconditioner, None] = {}
    for group, stack, part in stacked_parts(placed_stacks):
        parameter, counters = parameters[part.index], group.counters
        entry = state.get(parameter, ())
        if "step" not in entry:
            continue
        has_factors = stack.preconditioner is None or not is_of_adam(entry)
        if parameter not in new_blocks and has_factors:
            _load_part(stack, part, parameter, entry)
            mark = counters.mark_seen if _has_begun(stack, part) else counters.mark_moments
            mark(part)
            if stack.preconditioner is not None:
                restored[stack.preconditioner] = None
        elif _load_moments(stack, part, parameter, entry):
            mark = counters.mark_seen if stack.preconditioner is None else counters.mark_moments
            mark(part)
    for preconditioner in restored:
        preconditioner.restore()
    for group in placed_stacks if state else ():
        group.counters.compare()


def _has_begun(stack: Stack, part: Part) -> bool:
    """Whether a loaded part has factors, if it is to have any."""
    if stack.preconditioner is None:
        return True
    rows = slice(part.offset, part.offset + part.grid.blocks)
    has_moments_alone = (stack.preconditioner.weight[rows] == 0) & (stack.steps[rows] > 0)
    return not is_true(has_moments_alone.all(), otherwise=False)


def _load_part(stack: Stack, part: Part, parameter: Tensor, entry: Any) -> None:
    stack.make_room(entry)
    for key, rows in entries_of(stack, part):
        if key in ("exp_avg", "momentum_buffer") and key not in entry:
            continue  # the stack has this moment because another of its parameters loaded one
        load_rows(key, rows, part, parameter, entry.get(key))


def _load_moments(stack: Stack, part: Part, parameter: Tensor, entry: Any) -> bool:
    """Loads moments and counters; False without second moments to go on with.

    Those of SOAP are those of Adam where the identity is the basis.
    """
    second = entry.get("exp_avg_sq", entry.get("basis_sq"))
    expected = [key for key, _ in entries_of(stack, part)]
    if second is None and ("exp_avg_sq" in expected or "basis_sq" in expected):
        return False
    moments = {"exp_avg_sq": second, "basis_sq": second, **entry}
    stack.make_room(entry)
    for key, rows in entries_of(stack, part):
        if "." not in key and key in moments:
            load_rows(key, rows, part, parameter, moments[key])
    return True


def exported(
    state: GroupState,
    optimizer_state: Mapping[Tensor, Any],
    parameters: Container[Tensor],
    needed: bool = True,
) -> defaultdict[Tensor, dict[str, Any]]:
    """Complete state of one parameter group, in tensors of its own.

    Where ranks share it this is a collective, and the tensors are in CPU memory: one owner after
    the other broadcasts its state to the ranks that hold the same parameters, so that no more than
    one share is on its way.

    Args:
      state: the group's stacks and averages.
      optimizer_state: `Optimizer.state`, for entries of other code and for what was loaded.
      parameters: those of the group to export.
      needed: whether this rank needs it; the result is empty elsewhere.

    Raises:
      RuntimeError: if the shape of a parameter has changed.
    """
    stacked: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
    if state.stacks is not None:
        state.check_shapes(parameters)
        for stacks in state.stacks.placed_stacks:
            if not state.is_divided:
                save([stacks], state.members, stacked, parameters)
                continue
            stacks.refresher.collect()
            for owner, specs in enumerate(stacks.specs):
                manifest, flat = _broadcast(owner, stacks)
                if needed:
                    rebuilt = _rebuilt(specs, stacks, state.stacks.config, manifest, flat)
                    save([rebuilt], state.members, stacked, parameters)
    entries: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
    for parameter in state.members:
        if parameter not in parameters:
            continue
        averages = {}
        if state.averager is not None:
            tensors = state.averager.state_tensors(state.averager.shard(parameter))
            averages = {
                name: _unsharded(tensor, parameter) if state.is_divided else tensor.clone()
                for name, tensor in tensors.items()
            }
        foreign = foreign_entries(optimizer_state.get(parameter, {}))
        entry = {**foreign, **stacked[parameter], **averages}
        if needed and entry:
            entries[parameter] = entry
    return entries


def renew_mode(state: GroupState, entries: Mapping[Tensor, dict[str, Any]]) -> None:
    """Makes entries that `exported` returned follow an `eval` or `train` since then; local.

    Raises:
      RuntimeError: where that takes a collective, since ranks have shards of what `eval` replaced.
    """
    averager = state.averager
    if averager is None:
        return
    for parameter in state.members:
        tensors = averager.state_tensors(averager.shard(parameter))
        replaced, entry = tensors.get("train_weight"), entries.get(parameter, {})
        if replaced is None:
            entry.pop("train_weight", None)
        elif "train_weight" not in entry:
            if is_dtensor(parameter):
                raise RuntimeError(
                    "eval() was called after consolidate_state_dict(...): for sharded parameters "
                    "call consolidate_state_dict after eval(), on all ranks."
                )
            entry["train_weight"] = replaced


@dataclasses.dataclass(frozen=True)
class _Manifest:
    """The tensors of an owner's stacks.

    Attributes:
      tensors: (name, shape, dtype) of each state tensor, for each stack.
      saved: for each stack and part, whether there is anything to save.
    """

    tensors: list[list[tuple[str, tuple[int, ...], torch.dtype]]]
    saved: list[list[bool]]


def _broadcast(owner: int, stacks: PlacedStacks) -> tuple[_Manifest, Tensor]:
    """The manifest of an owner's stacks and the bytes of all their tensors, on every rank."""
    placement, is_owner = stacks.placement, stacks.placement.owner == owner
    box: list[_Manifest | None] = [None]
    tables = [stack.state_tensors() for stack in stacks.stacks] if is_owner else []
    if is_owner:
        box[0] = _Manifest(
            [[(name, tuple(t.shape), t.dtype) for name, t in table.items()] for table in tables],
            [[stacks.counters.has_state(m) for m in s.spec.parts] for s in stacks.stacks],
        )
    for source, group in _route(placement, owner):
        dist.broadcast_object_list(box, source, group, device=stacks.device)
    manifest = box[0]
    assert manifest is not None
    sizes = [_size(shape, dtype) for table in manifest.tensors for _, shape, dtype in table]
    flat = torch.empty(sum(sizes), dtype=torch.uint8, device=stacks.device)
    if is_owner:
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


def _rebuilt(
    specs: Sequence[StackSpec],
    like: PlacedStacks,
    config: StateConfig,
    manifest: _Manifest,
    flat: Tensor,
) -> PlacedStacks:
    """Rebuilds a remote owner's stacks on the CPU from the bytes it broadcast."""
    rebuilt = PlacedStacks([specs], like.indices, config, like.dtype, _CPU)
    flat, start = flat.to(_CPU), 0
    for stack, entries, saved in zip(rebuilt.stacks, manifest.tensors, manifest.saved, strict=True):
        stack.make_room({name for name, _, _ in entries})
        tensors = stack.state_tensors()
        for name, shape, dtype in entries:
            data = flat.narrow(0, start, _size(shape, dtype))
            # A view in another dtype must begin at a multiple of its size.
            tensors[name].copy_(data.clone().view(dtype).view(shape))
            start += len(data)
        for part, has_state in zip(stack.spec.parts, saved, strict=True):
            if has_state:
                rebuilt.counters.mark_seen(part)
    return rebuilt


def _size(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Bytes of a tensor."""
    return math.prod(shape) * dtype.itemsize


def sharded(entries: Mapping[Tensor, dict[str, Any]]) -> defaultdict[Tensor, dict[str, Any]]:
    """Complete entries, with those of DTensors as DTensors too, so that no rank saves all.

    A tensor of the parameter's shape lies as the parameter does, rows of blocks are cut alike.
    """
    result: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
    for parameter, entry in entries.items():
        for name, value in entry.items():
            cut = is_dtensor(parameter) and isinstance(value, Tensor) and value.dim() > 0
            result[parameter][name] = _shard(value, parameter) if cut else value
    return result


def _shard(value: Tensor, parameter: Any) -> Tensor:
    from torch.distributed.tensor import DTensor, Replicate, Shard

    placements = parameter.placements
    if value.shape != parameter.shape:
        placements = [Shard(0) if type(p) is Shard else Replicate() for p in placements]
    part, mesh = part_of(value, parameter, placements).clone(), parameter.device_mesh
    return DTensor.from_local(
        part, mesh, placements, run_check=False, shape=value.shape, stride=value.stride()
    )


def _unsharded(tensor: Tensor, parameter: Any) -> Tensor:
    """An averager's tensor of a parameter, unsharded, in CPU memory; a collective.

    A tensor of another shape than the rank's shard is a number that all ranks share.
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
