"""torch's fused Adam kernels for blocks that no preconditioner moves."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .roster import Roster
from .stacks import Stack

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
    roster: Roster,
    grads: Sequence[Tensor],
    weights: Sequence[Tensor],
    finite: Tensor,
    options: Mapping[str, Any],
) -> None:
    """Steps weights [1, L] or [m, n] by their gradients, in place; the state lies in the stack.

    Args:
      roster: those that take the step, in the order of `grads` and `weights`; their counters
        have been advanced.
      finite: a boolean scalar; where False nothing changes.
      options: the parameter group, with "shrink", the strength of decoupled decay.
    """
    first, second, steps = roster.adam
    torch._fused_adamw_(
        list(weights),
        list(grads),
        first,
        second,
        [],
        [each.float() for each in steps],  # what the kernel reads; no copy where it is that
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
