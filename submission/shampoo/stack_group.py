"""The stacks of one parameter group on one device, and their way through a step."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from submission.shampoo.blocking import Plan, stack_layouts
from submission.shampoo.counters import Counters
from submission.shampoo.stacks import Stack


class StackGroup:
    """All stacks of one group, device and parameter dtype.

    Args:
      plans: (index, plan) of each parameter that lives here.
      dtype: of all state.
      device: of the parameters and all state.
    """

    def __init__(
        self, plans: list[tuple[int, Plan]], dtype: torch.dtype, device: torch.device
    ) -> None:
        layouts = stack_layouts(plans)
        self.dtype, self.device = dtype, device
        self.counters = Counters(layouts, dtype, device)
        self.stacks = [
            Stack(layout, steps, dtype, device)
            for layout, steps in zip(layouts, self.counters.per_stack(), strict=True)
        ]
        self._members = [
            (member, view)
            for stack in self.stacks
            for member, view in zip(stack.layout.members, stack.views, strict=True)
        ]
        self._present: tuple[bool, ...] = ()

    def gather(self, grads: Mapping[int, Tensor]) -> Tensor:
        """Copies gradients into the stacks; returns whether all are finite, a boolean scalar.

        A gradient whose squares leave the dtype's range counts as not finite: its factors would.

        Args:
          grads: gradients as matrices, by parameter index; parameters without one are absent.
        """
        self._present = tuple(member.index in grads for member, _ in self._members)
        targets, sources = [], []
        for (member, view), present in zip(self._members, self._present, strict=True):
            if present:
                targets.append(view)
                sources.append(member.tile.of_matrix(grads[member.index]))
            else:
                view.zero_()
        if targets:
            torch._foreach_copy_(targets, sources)
        norms = torch._foreach_norm([stack.buffer for stack in self.stacks])
        return torch.stack(norms).isfinite().all()

    def step(self, finite: Tensor, options: Mapping[str, Any], refresh: bool) -> None:
        """Advances every stack; see `Stack.step`."""
        ticks = self.counters.advance(self._present, finite, options["betas"])
        for stack, tick in zip(self.stacks, ticks, strict=True):
            stack.step(finite, tick, options, refresh)

    def apply(self, weights: Mapping[int, Tensor], decay: Tensor | None) -> None:
        """Shrinks weights by a fraction of themselves and subtracts the last step's updates.

        Args:
          weights: weights as matrices, by parameter index; parameters without a gradient absent.
          decay: the fraction, a scalar tensor of the state's dtype; None for no decay.
        """
        targets, sources = [], []
        for member, view in self._members:
            if member.index in weights:
                targets.append(member.tile.of_matrix(weights[member.index]))
                sources.append(view)
        if not targets:
            return
        if decay is not None and targets[0].dtype == sources[0].dtype:
            torch._foreach_mul_(targets, 1 - decay)
        elif decay is not None:
            # Rounding 1 - decay to a short mantissa would give no decay at all, or far too much.
            exact = [target.to(decay.dtype) for target in targets]
            torch._foreach_add_(sources, torch._foreach_mul(exact, decay))
        torch._foreach_sub_(targets, sources)
