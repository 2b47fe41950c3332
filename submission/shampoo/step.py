"""What one step means: its options, the same for a parameter group, and its masks and rates."""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from torch import Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class StepOptions:
    """The options of one parameter group at one step; see `plan.options.ShampooOptions`.

    Attributes:
      lr: a float or a scalar tensor.
      maximize: whether gradients are negated first.
      fused: whether torch's fused kernel may be used, unless it is False.
      l2: strength of the decay that is added to gradients; 0 unless `decay_mode` is "l2".
      decay: strength of the decay of weights, a factor of the learning rate; 0 for "l2". A
        scalar tensor where it depends on an lr that the host does not know.
      capturable: whether nothing that the host decides may be part of the step.
      refresh_step: the group's step count, from 1.
    """

    lr: float | Tensor
    betas: tuple[float, float]
    eps: float
    maximize: bool
    fused: bool | None
    capturable: bool
    l2: float
    decay: float | Tensor
    exponent: float | None
    damping: float
    root_solver: str
    basis_solver: str
    nesterov: bool
    momentum: float
    refresh_interval: int
    refresh: str
    overlap: bool
    refresh_step: int


Number = float | Tensor


class Rates:
    """Weights, bias corrections and the learning rate of one step.

    Numbers where the host knows them, else tensors, either scalars or [N, 1, 1] per block of a
    stack; all broadcast to [N, m, n].

    Attributes:
      taken: 1 for blocks that take the step, 0 for others.
      shares: 1 - beta of the first and second moment; 0 for blocks that take no step.
      decays: EMA weights of the old moments; 1 for blocks that take no step.
      rate: the learning rate; 0 for blocks that take no step.
      is_uniform: whether they are the same for all blocks.
    """

    def __init__(
        self,
        taken: Number,
        shares: tuple[Number, Number],
        decays: tuple[Number, Number],
        rate: Number,
        corrected: Callable[[], tuple[Number, Number]],
        is_uniform: bool,
    ) -> None:
        self.taken, self.shares, self.decays, self.rate = taken, shares, decays, rate
        self.is_uniform = is_uniform
        self._corrected = corrected

    @property
    def are_known(self) -> bool:
        """Whether the host knows them."""
        return not isinstance(self.taken, Tensor)

    @cached_property
    def corrections(self) -> tuple[Number, Number]:
        """1 - beta**t for both betas, t being the gradients averaged so far."""
        return self._corrected()


class StepInfo(NamedTuple):
    """Masks, counters and rates of one step, per block of a stack.

    Attributes:
      live: booleans, whether a block takes the step; a scalar or [N, 1, 1].
      steps: gradients averaged so far, [N, 1, 1].
      fresh_blocks: the ranges of blocks that get their first gradient, known to the host.
      rates: see `Rates`.
    """

    live: Tensor
    steps: Tensor
    fresh_blocks: tuple[slice, ...]
    rates: Rates
