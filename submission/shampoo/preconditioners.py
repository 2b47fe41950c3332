"""What the methods have in common: from a stack of gradients to a stack of directions."""

import abc
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..plan.blocking import StackSpec
from .config import StateConfig
from .counters import Tick
from .sides import Carried, Side
from .symmetric import Blocks


class Preconditioner(abc.ABC):
    """The preconditioner of N blocks [m, n], with one `Side` or two.

    A step calls `observe`, refreshes what is due, then `into`, `track` and `direction`. First
    moments live in the coordinates that `into` leads to.

    Args:
      layout: the blocks, at least one of whose sides has a factor.
      config: what state there is.
      dtype: of all state but what `config` says otherwise of.
      device: of all state.

    Attributes:
      sides: left and right; None where the blocks have no factor.
      weight: [N, 1, 1], the sum of the weights in the factors, so that factor / weight is the
        average whenever a block began and however its EMA weight changed.
      refreshes_at_first: whether a block's first gradient must not pass without a refresh. If
        not, it must pass without one.
      exponent: the inverse power where the user gives none.
    """

    refreshes_at_first: bool
    exponent: float

    def __init__(
        self, layout: StackSpec, config: StateConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.weight = torch.zeros(layout.blocks, 1, 1, dtype=dtype, device=device)
        dtypes = state_dtypes(config, dtype)
        self.sides = tuple(
            self._side(size, *dtypes) if has_factor else None
            for size, has_factor in zip((layout.height, layout.width), layout.sides, strict=True)
        )

    @abc.abstractmethod
    def _side(self, dimension: int, factor_dtype: torch.dtype, root_dtype: torch.dtype) -> Side:
        """A side of blocks whose weight is `self.weight`."""

    def observe(self, grad: Tensor, tick: Tick, options: Mapping[str, Any]) -> None:
        """Averages the outer products of G [N, m, n] into the factors where they are due.

        L <- decay L + weight G G^T and R <- decay R + weight G^T G
        (Gupta et al. 2018, arXiv:1802.09568, algorithm 1, with an EMA instead of a sum).
        """
        average = FactorAverage.of(tick, options)
        if average is None:
            return
        left, right = self.sides
        grad = average.observed(grad)
        # 1 - decay is inexact, but exactly 0 where decay is 1.
        self.weight.mul_(average.decay).add_(1 - average.decay)
        if left is not None:
            left.factor.average(grad, average.decay, average.weight, average.seed)
        if right is not None:
            right.factor.average(grad.mT, average.decay, average.weight, average.seed)

    def into(self, grad: Tensor) -> Tensor:
        """The gradient in the coordinates of the first moment."""
        return grad

    def out(self, direction: Tensor) -> Tensor:
        """Back to the parameters' coordinates."""
        return direction

    @abc.abstractmethod
    def track(self, grad: Tensor, tick: Tick, options: Mapping[str, Any]) -> None:
        """Averages what every step needs from what `into` returned."""

    @abc.abstractmethod
    def direction(self, average: Tensor, tick: Tick, options: Mapping[str, Any]) -> Tensor:
        """The direction in parameter coordinates, linear in the first moment `average`."""

    def install(
        self, side: int, blocks: Blocks, result: Any, live: Tensor, first: Tensor | None
    ) -> None:
        """Takes over what a side computed at a refresh, and carries the moments along.

        Args:
          side: 0 for left, 1 for right.
          blocks: which blocks were refreshed.
          result: what the side's `compute` returned.
          live: [n] booleans; where False, all stays as it was.
          first: the first moment, [N, m, n], or None where there is none.
        """
        carried = [Carried(moment, True, side) for moment in self.squares().values()]
        if first is not None:
            carried.append(Carried(first, False, side))
        at = self.sides[side]
        assert at is not None
        at.install(blocks, result, live, carried)

    def turn_back(self, first: Tensor | None) -> None:  # noqa: B027 - most have no other
        """Brings the moments into the parameters' coordinates, for blocks that are to change.

        Args:
          first: the first moment, [N, m, n], or None where there is none.
        """

    def squares(self) -> dict[str, Tensor]:
        """Second moments kept in the coordinates of the first, [N, m, n], by name in the state."""
        return {}


class FactorAverage:
    """How the factors of a stack take one gradient.

    Attributes:
      decay: EMA weight of the old factors, 1 for blocks that take none; broadcasts to [N, 1, 1].
      weight: the gradient's.
      seed: of stochastic rounding: the group's step.
    """

    def __init__(self, decay: Tensor, weight: float, seed: int, only: Tensor | None) -> None:
        self.decay, self.weight, self.seed = decay, weight, seed
        self._only = only

    @classmethod
    def of(cls, tick: Tick, options: Mapping[str, Any]) -> "FactorAverage | None":
        """None at a step that is no factor's turn; a block's first gradient always counts."""
        interval, step = options["factor_interval"], options["refresh_step"]
        scheduled = step % interval == 0
        if not scheduled and tick.fresh is None:
            return None
        beta = options["betas"][1] ** interval
        if scheduled and interval == 1:
            return cls(tick.decays[1], 1 - beta, step, None)
        live = tick.live if scheduled or tick.fresh is None else tick.live & tick.fresh
        decay = 1 - (1 - beta) * live.to(tick.corrections[1].dtype)
        return cls(decay, 1 - beta, step, None if scheduled else live)

    def observed(self, grad: Tensor) -> Tensor:
        """The gradient, zero for blocks that take none."""
        return grad if self._only is None else grad * self._only


def state_dtypes(config: StateConfig, dtype: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
    """The dtypes of factors and of what is derived from them; float64 state is float64 throughout.

    >>> state_dtypes(StateConfig(root_dtype=torch.bfloat16), torch.float32)
    (torch.float32, torch.bfloat16)
    """
    if dtype == torch.float64:
        return dtype, dtype
    return config.factor_dtype, config.root_dtype
