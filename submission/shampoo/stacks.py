"""The state of all blocks of one shape, and one step of theirs in a fixed number of kernels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from submission.shampoo import grafting
from submission.shampoo.blocking import StackLayout
from submission.shampoo.counters import Tick
from submission.shampoo.preconditioners import RootInverse


class Stack:
    """Gradient buffer, moments and preconditioner of N blocks of shape [m, n].

    Attributes:
      layout: which parameters' blocks these are.
      buffer: [N, m, n]; gradients go in and, after a step, its update comes out.
      views: one view [rows, m, columns, n] of the buffer for each member of the layout.
      first, second: the first and second moment, [N, m, n].
      steps: gradients averaged so far, a view [N, 1, 1] of the group's counters.
      preconditioner: None where AdamW alone moves the blocks.
    """

    def __init__(
        self, layout: StackLayout, steps: Tensor, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (layout.blocks, layout.height, layout.width)
        self.layout = layout
        self.steps = steps
        self.buffer = torch.zeros(shape, dtype=dtype, device=device)
        self.first = torch.zeros_like(self.buffer)
        self.second = torch.zeros_like(self.buffer)
        self.preconditioner = RootInverse(layout, dtype, device) if any(layout.sides) else None
        self.views = [
            member.tile.of_stack(self.buffer.narrow(0, member.offset, member.tile.blocks))
            for member in layout.members
        ]

    def step(self, finite: Tensor, tick: Tick, options: Mapping[str, Any], refresh: bool) -> None:
        """Advances the state by the gradients in the buffer and leaves the update there.

        The update is to be subtracted from the weights; it holds the learning rate and is zero
        for blocks that take no step, whose state stays as it was, bit for bit.

        Args:
          finite: a boolean scalar on the device; False if any gradient of the step is not finite.
          tick: what the step means for these blocks.
          options: the parameter group.
          refresh: whether inverse roots are due.
        """
        betas = options["betas"]
        grad = self.buffer.masked_fill_(~finite, 0)
        grafting.update_moments_(self.first, self.second, grad, betas, tick.decays)
        average = grafting.first_moment(self.first, grad, betas[0], options["nesterov"])
        update = grafting.adam_direction(average, self.second, tick.corrections, options["eps"])
        if self.preconditioner is not None:
            self.preconditioner.update(grad, tick.decays[1], 1 - betas[1])
            # A parameter's first gradient must not wait for its roots.
            due = tick.live if refresh else tick.fresh
            if due is not None:
                self.preconditioner.refresh(
                    options["exponent"], options["damping"], due & tick.live
                )
            update = grafting.graft(self.preconditioner.direction(average), update)
        torch.mul(update, tick.live.to(update.dtype) * options["lr"], out=self.buffer)

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that must be saved, by name; each tensor has one row per block."""
        tensors = {"step": self.steps, "exp_avg": self.first, "exp_avg_sq": self.second}
        if self.preconditioner is not None:
            for side, factor, root in zip(
                ("left", "right"),
                self.preconditioner.factors,
                self.preconditioner.inverse_roots,
                strict=True,
            ):
                if factor is not None and root is not None:
                    tensors[side] = factor
                    tensors[f"{side}_root"] = root
        return tensors
