"""An exponential average of the iterates, over a share of training or a number of steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .averager import Averager, copies, copy_of

# From so many elements on, a kernel of its own costs less than three passes over memory instead of
# one: 20 bytes per element at 1.5 TB/s take the 4 microseconds of a launch at 300,000.
_LONG = 2**18


class ExponentialAverage(Averager):
    """x <- d x + (1 - d) W after each step; evaluation reads x.

    At the k-th step

        d = (1 - 1/k)^(1/share - 1),

    so that k = 1 forgets the initial weights, and W of step i has a part in x that grows with
    i^(1/share - 2): a mean age of share k (Karras et al. 2024, arXiv:2312.02696, section 3.1). The
    horizon grows with training and is the same share of any schedule at its end. With the option
    "averaging_decay" d is that (Polyak averaging with exponential weights), and x is W before the
    first step.

    State: "average"; "average_steps", a float64 scalar.
    """

    _main = "average"
    _counter = "average_steps"

    def _initial(self, weight: Tensor) -> dict[str, Tensor]:
        return {"average": copy_of(weight), "average_steps": self._count(weight.device, 0.0)}

    def _absent(self, weight: Tensor) -> dict[str, Tensor]:
        # Earlier versions saved none.
        return {"average_steps": torch.zeros((), dtype=torch.float64)}

    def _begin(self, weights: Sequence[Tensor]) -> list[Tensor]:
        return list(weights)

    def finish(
        self,
        weights: Sequence[Tensor],
        moving: Sequence[Tensor],
        finite: Tensor,
        options: Mapping[str, Any],
    ) -> None:
        for group in self._by_count(weights):
            averages = self._column(group, "average")
            gain = self._gain(group, finite, options).to(averages[0].dtype)
            same_dtype = group[0].dtype == averages[0].dtype
            targets = group if same_dtype else copies(group, averages)
            _approach(averages, targets, gain)

    def _gain(
        self, weights: Sequence[Tensor], finite: Tensor, options: Mapping[str, Any]
    ) -> Tensor:
        """1 - d, 0 in a skipped step, for weights that have one counter; counts the step."""
        old = self._state[weights[0]]["average_steps"]
        taken = finite.to(old.device, torch.float64)
        steps = old + taken
        self._advance(weights, steps)
        decay = options["averaging_decay"]
        if decay is None:
            share = 1 / steps.clamp_min(1)
            decay = (1 - share) ** (1 / options["averaging_share"] - 1)
        return taken * (1 - decay)

    def _averages(self, weights: list[Tensor], options: Mapping[str, Any]) -> list[Tensor]:
        return self._column(weights, "average")


def _approach(averages: list[Tensor], targets: list[Tensor], gain: Tensor) -> None:
    """x <- x + gain (W - x) in place, on an accelerator in one pass for what is long."""
    if gain.device.type == "cpu":
        torch._foreach_lerp_(averages, targets, [gain] * len(averages))
        return
    short: list[tuple[Tensor, Tensor]] = []
    for pair in zip(averages, targets, strict=True):
        if pair[0].numel() < _LONG:
            short.append(pair)
        else:
            pair[0].lerp_(pair[1], gain)
    if short:
        averages, targets = map(list, zip(*short, strict=True))
        change = torch._foreach_sub(targets, averages)
        torch._foreach_mul_(change, gain)
        torch._foreach_add_(averages, change)
