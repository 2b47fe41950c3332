"""The state of all blocks of one shape, and one step of theirs in a fixed number of kernels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from submission.shampoo import grafting
from submission.shampoo.blocking import Member, StackLayout
from submission.shampoo.preconditioners import RootInverse


class Stack:
    """Gradient buffer, moments, counters and preconditioner of N blocks of shape [m, n].

    Attributes:
      layout: which parameters' blocks these are.
      grad: the step's gradients, [N, m, n].
      first, second: the first and second moment, [N, m, n].
      steps: gradients averaged so far for each block, [N], float.
      preconditioner: None where AdamW alone moves the blocks.
    """

    def __init__(self, layout: StackLayout, dtype: torch.dtype, device: torch.device) -> None:
        shape = (layout.blocks, layout.height, layout.width)
        self.layout = layout
        self.grad = torch.zeros(shape, dtype=dtype, device=device)
        self.first = torch.zeros_like(self.grad)
        self.second = torch.zeros_like(self.grad)
        self.steps = torch.zeros(layout.blocks, dtype=torch.float32, device=device)
        self.preconditioner = RootInverse(layout, dtype, device) if any(layout.sides) else None
        self._grad_views = self.views(self.grad)
        self._masks: dict[tuple[bool, ...], Tensor] = {}
        self._present: tuple[bool, ...] = ()
        self._seen: set[Member] = set()

    def views(self, blocks: Tensor) -> list[Tensor]:
        """One view [rows, m, columns, n] of `blocks` [N, m, n] for each member."""
        return [
            member.tile.of_stack(blocks.narrow(0, member.offset, member.tile.blocks))
            for member in self.layout.members
        ]

    def gather(self, grads: Mapping[int, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Where gradients go and where they come from, as lists for `torch._foreach_copy_`.

        Args:
          grads: gradients as matrices, by parameter index; parameters without one are absent.
        """
        self._present = tuple(member.index in grads for member in self.layout.members)
        targets, sources = [], []
        for member, view, present in zip(
            self.layout.members, self._grad_views, self._present, strict=True
        ):
            if present:
                targets.append(view)
                sources.append(member.tile.of_matrix(grads[member.index]))
            else:
                view.zero_()
        return targets, sources

    def _live(self, finite: Tensor) -> Tensor:
        """Whether each block takes this step: booleans that broadcast to [N]."""
        return finite if all(self._present) else self._mask(self._present) & finite

    def _mask(self, pattern: tuple[bool, ...]) -> Tensor:
        """One boolean per block [N] from one per member; kept, since patterns recur."""
        if pattern not in self._masks:
            counts = [member.tile.blocks for member in self.layout.members]
            mask = [value for value, n in zip(pattern, counts, strict=True) for _ in range(n)]
            self._masks[pattern] = torch.tensor(mask, device=self.grad.device)
        return self._masks[pattern]

    def step(self, finite: Tensor, options: Mapping[str, Any], refresh: bool) -> Tensor:
        """Advances the state by the gathered gradients and returns the update, [N, m, n].

        The update is to be subtracted from the weights; it holds the learning rate and is zero
        for blocks that take no step, whose state stays as it was, bit for bit.

        Args:
          finite: a boolean scalar on the device; False if any gradient of the step is not finite.
          options: the parameter group.
          refresh: whether inverse roots are due.
        """
        beta1, beta2 = betas = options["betas"]
        newcomers = self._newcomers()
        live = self._live(finite)
        live_blocks = live.view(-1, 1, 1)
        live_float = live_blocks.to(self.grad.dtype)
        decay1 = 1 - (1 - beta1) * live_float
        decay2 = 1 - (1 - beta2) * live_float

        self.grad.masked_fill_(~finite, 0)
        self.steps.add_(live)
        steps = self.steps.to(self.grad.dtype).view(-1, 1, 1)
        correction1 = grafting.bias_correction(beta1, steps)
        correction2 = grafting.bias_correction(beta2, steps)
        grafting.update_moments_(self.first, self.second, self.grad, betas, (decay1, decay2))
        average = grafting.first_moment(self.first, self.grad, beta1, options["nesterov"])
        update = grafting.adam_direction(
            average, self.second, (correction1, correction2), options["eps"]
        )
        if self.preconditioner is not None:
            self.preconditioner.update(self.grad, decay2, 1 - beta2)
            if refresh or any(newcomers):
                due = live if refresh else live & self._mask(newcomers)
                self.preconditioner.refresh(
                    correction2, options["exponent"], options["damping"], due.view(-1, 1, 1)
                )
            update = grafting.graft(self.preconditioner.direction(average), update)
        return update.mul_(live_float * options["lr"])

    def _newcomers(self) -> tuple[bool, ...]:
        """Which members are here for the first time; they must not wait for their roots."""
        members = self.layout.members
        if len(self._seen) == len(members):
            return ()
        fresh = tuple(
            present and member not in self._seen
            for member, present in zip(members, self._present, strict=True)
        )
        self._seen.update(m for m, new in zip(members, fresh, strict=True) if new)
        return fresh

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

    def mark_seen(self, member: Member) -> None:
        """Notes that a member has its roots, loaded from a checkpoint."""
        self._seen.add(member)

    def has_seen(self, member: Member) -> bool:
        """Whether a member has had a gradient."""
        return member in self._seen
