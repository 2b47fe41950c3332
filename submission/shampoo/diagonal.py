"""Diagonal methods on stacks: a magnitude to graft, or the whole step of blocks without factors."""

import math

import torch
from torch import Tensor

from ..plan.options import Grafting
from .devices import has_fused_adam
from .step import Number, Rates, StepOptions

# First moments, second moments and step counts.
AdamState = tuple[list[Tensor], list[Tensor], list[Tensor]]


def is_fused(kind: Grafting | None, device: torch.device, options: StepOptions) -> bool:
    """Whether torch's fused Adam has the direction of a method, see `fused_direction`."""
    return (
        kind == "adam"
        and options.fused is not False
        and has_fused_adam(device.type)
        and options.betas[0] > 0
    )


def is_fused_step(kind: Grafting | None, device: torch.device, options: StepOptions) -> bool:
    """Whether torch's fused AdamW takes the step of a method, see `fused_adam`.

    It knows Adam without look-ahead or momentum, with decoupled decay.
    """
    return (
        is_fused(kind, device, options)
        and not options.nesterov
        and options.momentum == 0
        and options.l2 == 0
        and not isinstance(options.decay, Tensor)
    )


def averaged(first: Tensor, grad: Tensor, rates: Rates, options: StepOptions) -> Tensor:
    """M <- M + (1-beta) (G - M); returns M, or NAdam's look-ahead beta M + (1-beta) G.

    (Dozat 2016, without a momentum schedule.)
    """
    first.lerp_(grad, rates.shares[0])
    return torch.lerp(grad, first, options.betas[0]) if options.nesterov else first


def direction(
    kind: Grafting,
    second: Tensor | None,
    grad: Tensor,
    average: Tensor,
    rates: Rates,
    options: StepOptions,
) -> tuple[Tensor, Number]:
    """The method's step for a learning rate of 1, as a tensor and what it is to be multiplied with.

    First v <- decay v + (1-beta) g*g, or v + g*g for AdaGrad; then, for SGD, M / c1; AdaGrad (Duchi
    et al. 2011) and RMSprop (Hinton 2012): (M / c1) / (sqrt(v) + eps); Adam (Kingma & Ba 2015,
    arXiv:1412.6980, algorithm 1): (M / c1) / (sqrt(v / c2) + eps), that is, M / (sqrt(v) + eps
    sqrt(c2)) times sqrt(c2) / c1.

    Args:
      kind: which of them.
      second: v, the sum or average of squared gradients; None for SGD.
      grad: G in the shape of v, zero where v must stay.
      average: M, the first moment or its look-ahead, in the shape of v.
      rates: of the step.
      options: of the step.

    Returns:
      a new tensor, for SGD M itself; and the factor, which broadcasts to it.
    """
    c1, c2 = rates.corrections
    if second is None:
        return average, 1 / c1
    if kind == "adagrad":
        second.addcmul_(grad, grad)
    else:
        second.mul_(rates.decays[1]).addcmul_(grad, grad, value=1 - options.betas[1])
    scale: Number = c2**0.5 if kind == "adam" else 1.0
    root = second.sqrt().add_(scale * options.eps)
    return torch.div(average, root, out=root), scale / c1


def fused_direction(
    grad: Tensor,
    first: Tensor,
    second: Tensor,
    steps: Tensor,
    found_inf: Tensor | None,
    options: StepOptions,
) -> Tensor:
    """Adam's direction as a new tensor, after both moments have taken the gradient.

    By torch's fused Adam, which moves a weight of zero at a learning rate of -1: one pass over
    memory instead of seven. Of a first moment that has taken the gradient already it makes the
    look-ahead, see `averaged`, and takes its direction.

    Args:
      grad, first, second: of one shape.
      steps: a scalar, that counts this step already.
      found_inf: 1 where nothing must change, None where the host knows that it may.
      options: of the step.
    """
    moved = torch.zeros_like(grad)
    torch._fused_adam_(
        [moved],
        [grad],
        [first],
        [second],
        [],
        [steps.float()],
        lr=-1.0,
        beta1=options.betas[0],
        beta2=options.betas[1],
        weight_decay=0.0,
        eps=options.eps,
        amsgrad=False,
        maximize=False,
        grad_scale=None,
        found_inf=found_inf,
    )
    return moved


def fused_adam(
    weights: list[Tensor],
    grads: list[Tensor],
    state: AdamState,
    found_inf: Tensor | None,
    options: StepOptions,
) -> None:
    """Steps contiguous weights by their gradients in place, by torch's fused AdamW.

    Args:
      weights, grads: of equal shapes, and of the dtype of the state.
      state: first moments and second moments of the same shapes, and step counts, scalars that
        count this step already.
      found_inf: 1 where nothing must change, None where the host knows that it may.
      options: of the step.
    """
    first, second, steps = state
    assert not isinstance(options.decay, Tensor)
    torch._fused_adamw_(
        weights,
        grads,
        first,
        second,
        [],
        [step.float() for step in steps],  # what the kernel reads; no copy where it is that
        lr=options.lr,
        beta1=options.betas[0],
        beta2=options.betas[1],
        weight_decay=options.decay,
        eps=options.eps,
        amsgrad=False,
        maximize=options.maximize,
        grad_scale=None,
        found_inf=found_inf,
    )
    for weight in weights:  # torch's fused kernels do not tell autograd that they write
        torch.autograd.graph.increment_version(weight)


def grafting_factors(
    directions: Tensor, magnitudes: Tensor, otherwise: Number
) -> tuple[Tensor, Tensor]:
    """Factors that give directions other norms, and where there are none.

    (Agarwal et al. 2020, arXiv:2002.11803; per block as in Anil et al. 2020, arXiv:2002.09018.)
    None where a direction is zero, or too small or too large for its norm to be accurate: the
    diagonal method's own step must be taken there.

    Args:
      directions, magnitudes: norms, of one shape.
      otherwise: the factor where there is none.

    Returns:
      the factors, and booleans.
    """
    limits = torch.finfo(directions.dtype)
    sound = directions.clamp(math.sqrt(limits.tiny) * 10, limits.max)
    useless = sound != directions
    factors = magnitudes / sound
    if isinstance(otherwise, Tensor):
        return torch.where(useless, otherwise, factors), useless
    return factors.masked_fill_(useless, otherwise), useless
