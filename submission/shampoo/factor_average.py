"""How factors average gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .preconditioners import Preconditioner
from .step import Number, StepInfo, StepOptions


def average_factors(
    preconditioners: Sequence[Preconditioner],
    grads: Sequence[Tensor],
    info: StepInfo,
    options: StepOptions,
) -> None:
    """Averages the outer products of gradients G [N, m, n] into factors.

    L <- b L + (1 - b) G G^T and R <- b R + (1 - b) G^T G, b being beta2; of blocks that take no
    step L and R stay as they are, their gradients being zero
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
    if not remaining:
        return
    weights = [preconditioner.weight for preconditioner, _ in remaining]
    decay, share = info.rates.decays[1], info.rates.shares[1]
    left: Number | None = decay
    factors = [factor for preconditioner, _ in remaining for _, factor in preconditioner.present]
    if isinstance(decay, Tensor) and decay.dim():
        weights[0].mul_(decay).add_(share)
    else:
        torch._foreach_mul_(weights, decay)
        if isinstance(share, Tensor):
            # Without an alpha torch takes a scalar for a number, which the host would wait for.
            torch._foreach_add_(weights, share, alpha=1)
        else:
            torch._foreach_add_(weights, share)
        if isinstance(decay, Tensor) and all(f.matrix.storage.dtype == f.dtype for f in factors):
            torch._foreach_mul_([factor.matrix.storage for factor in factors], decay)
            left = None
    for preconditioner, grad in remaining:
        pairs = preconditioner.pairs(grad)
        for (_, factor), pair in zip(preconditioner.present, pairs, strict=True):
            factor.matrix.average(pair, left, 1 - options.betas[1], options.refresh_step)
