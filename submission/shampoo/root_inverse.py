"""Shampoo: inverse roots of both factors (Gupta et al. 2018, arXiv:1802.09568, algorithm 1)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from submission.shampoo.blocking import StackLayout
from submission.shampoo.config import StateConfig
from submission.shampoo.counters import Tick
from submission.shampoo.preconditioners import Preconditioner, layout_sides, no_weight
from submission.shampoo.sides import RootSide


class RootInverse(Preconditioner):
    """S = L^(-e) M R^(-e) for every block; a side without a factor is left as it is.

    Roots are zero before the first that can be trusted, which makes the direction zero, and
    grafting fall back to the diagonal method.
    """

    refreshes_at_first = True

    def __init__(
        self, layout: StackLayout, config: StateConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        factor_dtype, root_dtype = state_dtypes(config, dtype)
        weight = no_weight(layout, dtype, device)
        sides = [
            RootSide(size, weight, factor_dtype, root_dtype) if size is not None else None
            for size in layout_sides(layout)
        ]
        super().__init__(sides, weight)
        self._roots = [side for side in self.sides if isinstance(side, RootSide)]
        self.exponent = 1 / (2 * len(self._roots))

    def track(self, grad: Tensor, tick: Tick, options: Mapping[str, Any]) -> None:
        """Nothing: all there is changes at refreshes."""

    def direction(self, average: Tensor, tick: Tick, options: Mapping[str, Any]) -> Tensor:
        """S for the averaged gradients M, [N, m, n]."""
        del tick, options
        left, right = self.sides
        if isinstance(left, RootSide):
            average = left.root.times(average)
        if isinstance(right, RootSide):
            average = right.root.times_from_right(average)
        return average


def state_dtypes(config: StateConfig, dtype: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
    """The dtypes of factors and of what is derived from them; float64 state is float64 throughout.

    >>> state_dtypes(StateConfig(root_dtype=torch.bfloat16), torch.float32)
    (torch.float32, torch.bfloat16)
    """
    if dtype == torch.float64:
        return dtype, dtype
    return config.factor_dtype, config.root_dtype
