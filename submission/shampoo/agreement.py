"""Ranks that share work are compared once: options, parameters, values, gradients, loaded state.

Five numbers per rank are exchanged. Only where they differ do ranks send what they stand for, so
that each raises the same error.

Ranks are compared when stacks are made, not at every step. An option that one rank alone changes
between two steps is not seen then: each block takes its owner's value. It is refused when stacks
are made again. A change that makes them again on one rank alone, of a `BlockingConfig`, starts a
collective there that no other rank joins, so that it cannot be refused: to see it, all ranks would
have to exchange a number before that, at every step, and the host wait for it. Nor is a gradient
seen that one rank alone has at a later step.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from .config import OPTIONS, DistributedConfig, parameter_names
from .devices import has_values
from .group_state import GroupState
from .placement import local

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_INTEGERS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}

# (what it is, its value) in the same order on all ranks that agree.
Facts = list[tuple[str, Any]]

# Parameter groups with their numbers and states.
Members = Sequence[tuple[int, dict[str, Any], GroupState]]

_ADVICE = {
    "options": "All ranks of a process group must be given the same options.",
    "parameters": "All ranks of a process group must be given the same parameters in the same "
    "order; for models that differ between ranks pass distributed=None, as where "
    "ZeroRedundancyOptimizer divides the parameters, or a DistributedConfig with the group of "
    "ranks that hold replicas.",
    "values": "Replicas must be equal before the first step, as DistributedDataParallel makes "
    "them; for models that differ between ranks pass distributed=None, or a DistributedConfig with "
    "the group of ranks that hold replicas.",
    "gradients": "A parameter needs a gradient on all ranks or on none.",
    "state": "All ranks of a process group must load the same state.",
}


def verify(
    groups: Sequence[dict[str, Any]],
    states: Sequence[GroupState],
    config: DistributedConfig | None,
) -> None:
    """Compares ranks whose stacks are new; then a collective of all that share a process group.

    Where tensors have no values there is nothing to compare.

    Args:
      groups: the parameter groups.
      states: theirs.
      config: how work is divided.

    Raises:
      RuntimeError: if ranks disagree, on all of them.
    """
    new = [
        (number, group, state)
        for number, (group, state) in enumerate(zip(groups, states, strict=True))
        if state.is_divided and not state.is_verified
    ]
    places = list({place: None for _, _, state in new for place in state.process_groups})
    if not places:
        return
    device = new[0][1]["params"][0].device
    if not has_values(device):
        return
    said = []
    for process_group in places:
        members = [row for row in new if process_group in row[2].process_groups]
        facts = {
            "options": list(_options(members, config)),
            "parameters": list(_parameters(members)),
            "values": list(_values(members, process_group)),
            "gradients": list(_gradients(members)),
            "state": list(_state(members)),
        }
        said.append(_compare(facts, process_group, device))
    differ = torch.tensor(float(any(said)), device=device)
    for process_group in places:  # rows and columns of a mesh: so all of its ranks come to know
        dist.all_reduce(differ, dist.ReduceOp.MAX, process_group)
    if differ:
        raise RuntimeError(next(filter(None, said), "Other ranks differ, see their errors."))
    for _, _, state in new:
        state.is_verified, state.loaded = True, []


def _options(members: Members, config: DistributedConfig | None) -> Iterator[tuple[str, Any]]:
    if config is not None:
        for field in dataclasses.fields(config):
            if field.name != "group":
                yield f"DistributedConfig.{field.name}", repr(getattr(config, field.name))
    for number, group, _ in members:
        for name in OPTIONS:
            value = group[name]
            value = float(value) if isinstance(value, Tensor) else value
            yield f"group {number}'s {name}", repr(value)


def _parameters(members: Members) -> Iterator[tuple[str, Any]]:
    for number, group, state in members:
        assert state.stacks is not None
        stacked = state.stacks.layouts
        yield f"the number of parameters of group {number}", len(group["params"])
        for index, parameter in enumerate(group["params"]):
            shape = list(parameter.shape), str(parameter.dtype), index in stacked
            yield f"the shape, dtype and use of parameter {index} of group {number}", shape


def _values(members: Members, process_group: "ProcessGroup") -> Iterator[tuple[str, Any]]:
    """Checksums of what replicas must have in common; the host waits for the device."""
    names, sums = [], []
    for number, group, state in members:
        assert state.stacks is not None
        labels = parameter_names(group)
        for index, (*_, placement) in state.stacks.layouts.items():
            if placement.kind != "gathered" and placement.replica_group is process_group:
                names.append(f"the values of {labels[index]} in group {number}")
                sums.append(checksum(local(group["params"][index])))
    device = sums[0].device if sums else None
    numbers = torch.stack([total.to(device) for total in sums]).tolist() if sums else []
    yield from zip(names, numbers, strict=True)


def _gradients(members: Members) -> Iterator[tuple[str, Any]]:
    for number, group, state in members:
        assert state.stacks is not None
        labels = parameter_names(group)
        for index in state.stacks.layouts:
            has_gradient = group["params"][index].grad is not None
            yield f"whether {labels[index]} of group {number} has a gradient", has_gradient


def _state(members: Members) -> Iterator[tuple[str, Any]]:
    for number, group, state in members:
        yield f"the steps of group {number}", group["refresh_step"]
        yield from state.loaded


def checksum(tensor: Tensor) -> Tensor:
    """The sum of a tensor's bits as integers, a scalar; no rounding, so in any order the same."""
    tensor = tensor.detach().contiguous()
    bits = tensor.view(-1).view(_INTEGERS[tensor.itemsize])
    return bits.sum(dtype=torch.int64)


def fingerprints(saved: Mapping[Tensor, Mapping[str, Any]], parameters: Sequence[Tensor]) -> Facts:
    """What identifies the loaded state of parameters."""
    return [
        (f"the loaded {name!r} of parameter {index}", int(checksum(value)))
        for index, parameter in enumerate(parameters)
        for name, value in sorted(saved.get(parameter, {}).items())
        if isinstance(value, Tensor) and value.numel()
    ]


def _compare(
    facts: Mapping[str, Facts], process_group: "ProcessGroup", device: torch.device
) -> str:
    """In what the ranks of a process group differ; empty if they agree."""
    digests = [
        int.from_bytes(hashlib.blake2b(repr(rows).encode(), digest_size=8).digest(), signed=True)
        for rows in facts.values()
    ]
    sent = torch.tensor(digests, device=device)
    # Torch's "fake" process group sends nothing: to it all ranks are this one.
    received = [sent.clone() for _ in range(dist.get_world_size(process_group))]
    dist.all_gather(received, sent, process_group)
    rows = torch.stack(received).tolist()
    if all(row == rows[0] for row in rows):
        return ""
    explained: list[Any] = [None] * len(rows)
    dist.all_gather_object(explained, dict(facts), process_group)
    ranks = dist.get_process_group_ranks(process_group)
    for kind, advice in _ADVICE.items():
        for rank, other in zip(ranks, explained, strict=True):
            if other[kind] != explained[0][kind]:
                difference = _difference(explained[0][kind], other[kind], kind)
                return f"Ranks {ranks[0]} and {rank} {difference}. {advice}"
    raise AssertionError("ranks differ in nothing that they know of")


def _difference(first: Facts, other: Facts, kind: str) -> str:
    are_checksums = kind in ("values", "state")
    if kind == "values" and sorted(v for _, v in first) == sorted(v for _, v in other):
        return "have the same parameters in different orders"
    for (what, value), (other_what, other_value) in zip(first, other, strict=False):
        if what != other_what:
            return f"differ: one has {what}, the other {other_what}"
        if value != other_value:
            return f"differ in {what}" + ("" if are_checksums else f": {value} and {other_value}")
    longer = max(first, other, key=len)
    return f"differ: only one has {longer[min(len(first), len(other))][0]}"
