"""What one step means: its options, the same for a parameter group, and its masks and rates."""

import dataclasses
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
      refresh_step: the group's step count, from 1.
    """

    lr: float | Tensor
    betas: tuple[float, float]
    eps: float
    maximize: bool
    fused: bool | None
    l2: float
    decay: float | Tensor
    exponent: float | None
    damping: float
    root_solver: str
    basis_solver: str
    grafting_scope: str
    nesterov: bool
    momentum: float
    refresh_interval: int
    refresh: str
    refresh_tolerance: float
    overlap: bool
    factor_interval: int
    refresh_step: int


class StepInfo(NamedTuple):
    """Masks, decay factors, bias corrections and learning rate of one step, per block of a stack.

    Everything broadcasts to [N, m, n].

    Attributes:
      live: booleans, whether a block takes the step.
      decays: EMA weights of the old first and second moment; 1 for blocks that take no step.
      corrections: 1 - beta**t for both betas, t being the gradients averaged so far.
      adam_scale: sqrt(1 / c2) * c1 of the corrections c1 and c2.
      rate: the learning rate; 0 for blocks that take no step.
      steps: t, [N, 1, 1].
      fresh: booleans, which blocks get their first gradient; None if no block does.
      fresh_blocks: the same as ranges, known to the host.
    """

    live: Tensor
    decays: tuple[Tensor, Tensor]
    corrections: tuple[Tensor, Tensor]
    adam_scale: Tensor
    rate: Tensor
    steps: Tensor
    fresh: Tensor | None
    fresh_blocks: tuple[slice, ...]
