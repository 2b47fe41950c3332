"""Shampoo: inverse roots of both factors (Gupta et al. 2018, arXiv:1802.09568, algorithm 1)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..plan.blocking import StackSpec
from .config import StateConfig
from .counters import Tick
from .preconditioners import Preconditioner
from .sides import RootSide


class RootInverse(Preconditioner):
    """S = L^(-e) M R^(-e) for every block; a side without a factor is left as it is.

    Roots are zero before the first that can be trusted, which makes the direction zero, and
    grafting fall back to the diagonal method.
    """

    refreshes_at_first = True

    def __init__(
        self, layout: StackSpec, config: StateConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(layout, config, dtype, device)
        self.exponent = 1 / (2 * sum(layout.sides))

    def _side(self, dimension: int, factor_dtype: torch.dtype, root_dtype: torch.dtype) -> RootSide:
        return RootSide(dimension, self.weight, factor_dtype, root_dtype)

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
