"""torch's fused Adam kernels for blocks that no preconditioner moves."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from submission.shampoo.blocking import Member
from submission.shampoo.stacks import Stack

# torch has fused kernels for these devices only.
_DEVICES = ("cpu", "cuda")


def fits(
    stack: Stack,
    grads: Sequence[Tensor],
    weights: Sequence[Tensor],
    options: Mapping[str, Any],
) -> bool:
    """Whether the fused kernel takes the same step as the stack would: none, if there are no grads.

    It knows Adam without look-ahead or momentum, with decoupled decay, and one dtype for weights,
    gradients and state.

    Args:
      stack: one without a preconditioner.
      grads, weights: as matrices, those of the stack's members that take the step.
      options: the parameter group.
    """
    if not weights:
        return True
    if stack.diagonal is None or stack.diagonal.kind != "adam":
        return False
    if options["nesterov"] or options["momentum"] > 0 or options["betas"][0] == 0:
        return False
    if options["decay_mode"] == "l2" and options["weight_decay"] > 0:
        return False
    return stack.device.type in _DEVICES and all(
        tensor.dtype == stack.dtype and tensor.is_contiguous() for tensor in (*grads, *weights)
    )


def step(
    stack: Stack,
    members: Sequence[Member],
    grads: Sequence[Tensor],
    weights: Sequence[Tensor],
    finite: Tensor,
    options: Mapping[str, Any],
) -> None:
    """Steps weights [1, L] or [m, n] by their gradients, in place; the state lies in the stack.

    Args:
      members: those that take the step, in the order of `grads` and `weights`; their counters
        have been advanced.
      finite: a boolean scalar; where False nothing changes.
      options: the parameter group, with "shrink", the strength of decoupled decay.
    """
    assert stack.diagonal is not None and stack.diagonal.second is not None
    first, second = (
        [
            state.narrow(0, member.offset, member.tile.blocks).view(member.matrix)
            for member in members
        ]
        for state in (stack.ensure_first(), stack.diagonal.second)
    )
    # The kernel reads its counters in float32.
    steps = [stack.steps[member.offset, 0, 0].float() for member in members]
    torch._fused_adamw_(
        list(weights),
        list(grads),
        first,
        second,
        [],
        steps,
        lr=options["lr"],
        beta1=options["betas"][0],
        beta2=options["betas"][1],
        weight_decay=options["shrink"],
        eps=options["eps"],
        amsgrad=False,
        maximize=False,
        grad_scale=None,
        found_inf=(~finite).float(),
    )
