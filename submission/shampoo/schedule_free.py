"""Schedule-free averaging."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .averager import Averager, by_kind, copies, copy_of
from .devices import scalar_for


class ScheduleFree(Averager):
    """Schedule-free averaging (Defazio et al. 2024, arXiv:2405.15682, equations 3 to 5).

    The weights hold y, where gradients are taken; evaluation reads x. With u such that a plain
    step is W <- W - lr u, decay included, and w the sum of lr^2 over the weight's steps:

        c = lr^2 / w
        y <- (1 - c) y + c z + lr (beta (1 - c) - 1) u
        z <- z - lr u
        x = y + (1 - 1/beta) (z - y)

    beta is the option "averaging_beta", in (0, 1]. While all lr have been 0, c is 0.

    The plain step moves a copy of y in the state's dtype, so that its displacement -lr u is not
    rounded to that of bf16 weights. Those have y's remainder beside them rather than y itself, so
    that they remain the truth when something else writes to them.

    State: "z"; "weight_sum", a float64 scalar; and, for weights of lower precision than the state,
    "remainder", y - W.
    """

    _main = "z"
    _counter = "weight_sum"

    def _initial(self, weight: Tensor) -> dict[str, Tensor]:
        state = {"z": copy_of(weight), "weight_sum": self._count(weight.device, 0.0)}
        if weight.dtype != state["z"].dtype:
            state["remainder"] = torch.zeros_like(state["z"])
        return state

    def _absent(self, weight: Tensor) -> dict[str, Tensor]:
        # None was saved by weights that had the state's precision then.
        return {"remainder": torch.zeros_like(weight)}

    def _begin(self, weights: Sequence[Tensor]) -> list[Tensor]:
        moving: dict[Tensor, Tensor] = {}
        for group in by_kind(weights):
            moving.update(zip(group, self._iterates(group), strict=True))
        return [moving[weight] for weight in weights]

    def finish(
        self,
        weights: Sequence[Tensor],
        moving: Sequence[Tensor],
        finite: Tensor,
        options: Mapping[str, Any],
    ) -> None:
        moved = dict(zip(weights, moving, strict=True))
        for group in self._by_count(weights):
            share = self._share(group, finite, options["lr"])
            z = self._column(group, "z")
            dtype = z[0].dtype
            y = group if group[0].dtype == dtype else self._iterates(group)
            steps = [moved[weight] for weight in group]
            torch._foreach_sub_(steps, y)
            # Written as sums of y and what is 0 in a skipped step, which leaves y as it was.
            pull = torch._foreach_sub(z, y)
            torch._foreach_mul_(pull, share.to(dtype))
            torch._foreach_add_(y, pull)
            torch._foreach_add_(z, steps)
            torch._foreach_mul_(steps, (1 - options["averaging_beta"] * (1 - share)).to(dtype))
            torch._foreach_add_(y, steps)
            if y is not group:
                remainders = self._column(group, "remainder")
                torch._foreach_copy_(group, y)
                torch._foreach_copy_(remainders, group)
                torch._foreach_neg_(remainders)
                torch._foreach_add_(remainders, y)

    def _share(self, weights: Sequence[Tensor], finite: Tensor, lr: float | Tensor) -> Tensor:
        """c, a float64 scalar, for weights that have one sum; counts the step into it."""
        old = self._state[weights[0]]["weight_sum"]
        lr = scalar_for(lr, old.device)
        if isinstance(lr, Tensor):
            lr = lr.to(torch.float64)
        term = finite.to(old.device, torch.float64) * (lr * lr)
        new = old + term
        self._advance(weights, new)
        return term / new.clamp_min(torch.finfo(new.dtype).tiny)

    def _averages(self, weights: list[Tensor], options: Mapping[str, Any]) -> list[Tensor]:
        averages = self._iterates(weights)
        lead = torch._foreach_sub(self._column(weights, "z"), averages)
        torch._foreach_mul_(lead, 1 - 1 / options["averaging_beta"])
        torch._foreach_add_(averages, lead)
        return averages

    def _iterates(self, weights: list[Tensor]) -> list[Tensor]:
        """y of weights of one device and dtype, in the state's dtype; new tensors."""
        z = self._column(weights, "z")
        iterates = copies(weights, z)
        if weights[0].dtype != z[0].dtype:
            for weight, like in zip(weights, z, strict=True):
                if "remainder" not in self._state[weight]:  # rounded since its last step
                    self._state[weight]["remainder"] = torch.zeros_like(like)
            torch._foreach_add_(iterates, self._column(weights, "remainder"))
        return iterates
