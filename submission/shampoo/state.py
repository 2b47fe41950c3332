"""From stacks to per-parameter state and back: what is saved does not know of stacks."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from submission.shampoo.blocking import Member
from submission.shampoo.counters import Counters
from submission.shampoo.stack_group import StackGroup
from submission.shampoo.stacks import Stack

# Held once per element of the parameter; everything else but `step` is held once per block.
_ELEMENTWISE = ("exp_avg", "exp_avg_sq", "basis_sq", "momentum_buffer")


def save(stack_groups: Sequence[StackGroup], parameters: Sequence[Tensor], state: Any) -> None:
    """Writes copies of the stacks' rows into `state[parameter]`.

    Each parameter that has had a gradient has `step`, a float scalar, and in its own shape
    whichever there are of `exp_avg`, `exp_avg_sq` (of grafting, or of the diagonal method),
    `basis_sq` (SOAP's) and `momentum_buffer`. For the i-th of its tiles it has `left.i`, `right.i`
    and what belongs to them, `left_root.i`, `left_basis.i` and so on, one row per block; symmetric
    matrices are rows of `symmetric.pieces`. Moments of SOAP and KL-Shampoo are in the basis.
    """
    for group in stack_groups:
        group.refresher.collect()
    for counters, stack, member in _members(stack_groups):
        if not counters.has_seen(member):
            continue
        parameter = parameters[member.index]
        entry = state[parameter]
        for name, tensor in stack.state_tensors().items():
            rows = tensor.narrow(0, member.offset, member.tile.blocks)
            if name == "step":
                entry["step"] = rows[0].reshape(()).clone()
            elif name in _ELEMENTWISE:
                if name not in entry:
                    entry[name] = torch.empty(
                        parameter.shape, dtype=tensor.dtype, device=tensor.device
                    )
                matrix = entry[name].view(member.matrix)
                member.tile.of_matrix(matrix).copy_(member.tile.of_stack(rows))
            else:
                entry[f"{name}.{member.number}"] = rows.clone()


def load(stack_groups: Sequence[StackGroup], parameters: Sequence[Tensor], state: Any) -> None:
    """Fills stacks from `state[parameter]`; parameters without state start anew.

    Raises:
      ValueError: if a tensor is missing or its shape does not fit.
    """
    for counters, stack, member in _members(stack_groups):
        entry = state.get(parameters[member.index])
        if entry:
            counters.mark_seen(member)
            _load_member(stack, member, parameters[member.index], entry)
    for group in stack_groups:
        for stack in group.stacks:
            stack.restore()


def _load_member(stack: Stack, member: Member, parameter: Tensor, entry: Any) -> None:
    if "exp_avg" in entry:
        stack.ensure_first()
    if "momentum_buffer" in entry:
        stack.ensure_velocity()
    for name, tensor in stack.state_tensors().items():
        key = name if name == "step" or name in _ELEMENTWISE else f"{name}.{member.number}"
        if key in ("exp_avg", "momentum_buffer") and key not in entry:
            continue  # made for another parameter of the stack
        rows = tensor.narrow(0, member.offset, member.tile.blocks)
        if name == "step":
            shape: tuple[int, ...] = ()
        else:
            shape = tuple(parameter.shape if name in _ELEMENTWISE else rows.shape)
        value = entry.get(key)
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            found = tuple(value.shape) if isinstance(value, Tensor) else value
            raise ValueError(
                f"state_dict: {key!r} of the parameter of shape {tuple(parameter.shape)} must "
                f"be a tensor of shape {shape}, got {found}."
            )
        if name in _ELEMENTWISE:
            matrix = value.reshape(member.matrix)
            member.tile.of_stack(rows).copy_(member.tile.of_matrix(matrix))
        else:
            rows.copy_(value)


def steps(
    stack_groups: Sequence[StackGroup], parameters: Sequence[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each parameter with a live scalar view of its step counter."""
    for _, stack, member in _members(stack_groups):
        yield parameters[member.index], stack.steps[member.offset, 0, 0]


def _members(stack_groups: Sequence[StackGroup]) -> Iterator[tuple[Counters, Stack, Member]]:
    for group in stack_groups:
        for stack in group.stacks:
            for member in stack.layout.members:
                yield group.counters, stack, member
