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
_ELEMENTWISE = ("exp_avg", "exp_avg_sq")


def save(stack_groups: Sequence[StackGroup], parameters: Sequence[Tensor], state: Any) -> None:
    """Writes copies of the stacks' rows into `state[parameter]`.

    Each parameter that has had a gradient has `step`, a float scalar, `exp_avg` and `exp_avg_sq`
    in its own shape, and for the i-th of its tiles `left.i`, `right.i` and their `left_root.i`,
    `right_root.i`, of shape [blocks, m, m] and [blocks, n, n].
    """
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
        parameter = parameters[member.index]
        entry = state.get(parameter)
        if not entry:
            continue
        counters.mark_seen(member)
        for name, tensor in stack.state_tensors().items():
            key = name if name == "step" or name in _ELEMENTWISE else f"{name}.{member.number}"
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
