"""AdamW's direction on stacks: grafted onto Shampoo's, and the update of all the rest."""

import math

import torch
from torch import Tensor


def update_moments_(
    first: Tensor,
    second: Tensor,
    grad: Tensor,
    betas: tuple[float, float],
    decays: tuple[Tensor, Tensor],
) -> None:
    """m <- decay1 m + (1-beta1) g and v <- decay2 v + (1-beta2) g*g, in place.

    Args:
      first, second: m and v, the shape of `grad`.
      grad: zero where the moments must not change.
      betas: EMA weights.
      decays: beta1 and beta2, but 1 where the moments must not change; broadcast to `grad`.
    """
    first.mul_(decays[0]).add_(grad, alpha=1 - betas[0])
    second.mul_(decays[1]).addcmul_(grad, grad, value=1 - betas[1])


def first_moment(first: Tensor, grad: Tensor, beta: float, nesterov: bool) -> Tensor:
    """The average that a step follows: m, or beta m + (1-beta) g for Nesterov's look-ahead.

    The look-ahead is NAdam's (Dozat 2016) without a momentum schedule, as in AlgoPerf's NAdamW.
    """
    return torch.lerp(grad, first, beta) if nesterov else first


def adam_direction(
    average: Tensor, second: Tensor, corrections: tuple[Tensor, Tensor], eps: float
) -> Tensor:
    """(average / c1) / (sqrt(v / c2) + eps), Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1.

    Args:
      average: what `first_moment` returned.
      second: v, the same shape.
      corrections: c1 and c2, see `counters.bias_correction`; broadcast to `average`.
      eps: keeps the quotient finite.
    """
    c1, c2 = corrections
    return average / second.sqrt().mul_(c1 * c2.rsqrt()).add_(c1 * eps)


def graft(direction: Tensor, magnitude: Tensor) -> Tensor:
    """`direction` with the Frobenius norm of `magnitude`, block by block.

    (Agarwal et al. 2020, arXiv:2002.11803; per block as in Anil et al. 2020, arXiv:2002.09018.)
    Where a block's direction is zero, or too small or too large for its norm to be accurate, the
    block takes `magnitude` itself.

    Args:
      direction, magnitude: [N, m, n].
    """
    norm = torch.linalg.matrix_norm(direction, keepdim=True)
    smallest = math.sqrt(torch.finfo(direction.dtype).tiny) * 10
    ratio = torch.linalg.matrix_norm(magnitude, keepdim=True) / norm.clamp_min(smallest)
    usable = (norm > smallest) & norm.isfinite()
    return torch.where(usable, direction * ratio, magnitude)
