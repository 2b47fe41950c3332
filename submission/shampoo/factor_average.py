"""How factors average gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .preconditioners import Preconditioner
from .step import Number, StepInfo, StepOptions


class FactorAverage:
    """How the factors of a stack average one gradient.

    Attributes:
      decay: EMA weight of the old factors, 1 for blocks that average none; a number where the host
        knows it, else it broadcasts to [N, 1, 1].
      share: 1 - decay; exactly 0 where decay is 1.
      weight: the gradient's.
      seed: of stochastic rounding: the group's step.
    """

    def __init__(
        self, decay: Number, share: Number, weight: float, seed: int, only: Tensor | None
    ) -> None:
        self.decay, self.share, self.weight, self.seed = decay, share, weight, seed
        self._only = only

    @classmethod
    def of(cls, info: StepInfo, options: StepOptions) -> "FactorAverage | None":
        """None at a step whose gradient is skipped; a block's first gradient always counts."""
        interval, step = options.factor_interval, options.refresh_step
        scheduled = step % interval == 0
        if not scheduled and info.fresh is None:
            return None
        beta = options.betas[1] ** interval
        if scheduled and interval == 1:
            return cls(info.rates.decays[1], info.rates.shares[1], 1 - beta, step, None)
        taken: Number = info.rates.taken
        only: Tensor | None = None
        if not scheduled:
            assert info.fresh is not None
            only = info.live & info.fresh
            taken = only.to(info.steps.dtype)
        share = (1 - beta) * taken
        return cls(1 - share, share, 1 - beta, step, only)

    def observed(self, grad: Tensor) -> Tensor:
        """The gradient, zero for blocks that average none."""
        return grad if self._only is None else grad * self._only


def average_factors(
    preconditioners: Sequence[Preconditioner],
    grads: Sequence[Tensor],
    info: StepInfo,
    options: StepOptions,
) -> None:
    """Averages the outer products of gradients G [N, m, n] into factors where they are due.

    L <- decay L + weight G G^T and R <- decay R + weight G^T G
    (Gupta et al. 2018, arXiv:1802.09568, algorithm 1, with an EMA instead of a sum).

    Args:
      preconditioners, grads: of stacks that take the same step; of one stack, if its blocks differ.
      info: of the step.
      options: of the step.
    """
    remaining = [
        (preconditioner, grad)
        for preconditioner, grad in zip(preconditioners, grads, strict=True)
        if not preconditioner.update_factors(grad, info, options)
    ]
    average = FactorAverage.of(info, options)
    if average is None or not remaining:
        return
    weights = [preconditioner.weight for preconditioner, _ in remaining]
    decay = average.decay
    left: Number | None = decay
    factors = [factor for preconditioner, _ in remaining for _, factor in preconditioner.present]
    if isinstance(decay, Tensor) and decay.dim():
        weights[0].mul_(decay).add_(average.share)
    else:
        torch._foreach_mul_(weights, decay)
        if isinstance(average.share, Tensor):
            # Without an alpha torch takes a scalar for a number, which the host would wait for.
            torch._foreach_add_(weights, average.share, alpha=1)
        else:
            torch._foreach_add_(weights, average.share)
        if isinstance(decay, Tensor) and all(f.matrix.storage.dtype == f.dtype for f in factors):
            torch._foreach_mul_([factor.matrix.storage for factor in factors], decay)
            left = None
    for preconditioner, grad in remaining:
        observed = average.observed(grad)
        pairs = preconditioner.pairs(observed, keeps=observed is grad)
        for (_, factor), pair in zip(preconditioner.present, pairs, strict=True):
            factor.matrix.average(pair, left, average.weight, average.seed)
