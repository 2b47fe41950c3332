"""Diagonal methods on stacks: a magnitude to graft, or the whole step of blocks without factors."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..plan.options import Grafting
from .devices import has_fused_adam
from .step import StepInfo, StepOptions

# First moments, second moments and step counts.
AdamState = tuple[list[Tensor], list[Tensor], list[Tensor]]


class Diagonal:
    """SGD, AdaGrad, RMSprop or Adam for N blocks [m, n].

    Attributes:
      kind: which of them.
      second: v, the sum or average of squared gradients, [N, m, n]; None for SGD.
    """

    def __init__(self, kind: Grafting, shape: tuple[int, ...], **placement: object) -> None:
        self.kind = kind
        self.second: Tensor | None = None
        if kind != "sgd":
            self.second = torch.zeros(shape, **placement)  # type: ignore[call-overload]

    def update(self, grad: Tensor, info: StepInfo, beta: float) -> None:
        """v <- decay v + (1-beta) g*g, or v + g*g for AdaGrad; grad is zero where v must stay."""
        if self.second is None:
            return
        if self.kind == "adagrad":
            self.second.addcmul_(grad, grad)
        else:
            self.second.mul_(info.decays[1]).addcmul_(grad, grad, value=1 - beta)

    def direction(self, average: Tensor, info: StepInfo, eps: float) -> Tensor:
        """The method's step for a learning rate of 1, in a new tensor.

        SGD: M / c1; AdaGrad (Duchi et al. 2011) and RMSprop (Hinton 2012): (M / c1) / (sqrt(v) +
        eps); Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1): (M / c1) / (sqrt(v / c2) +
        eps).

        Args:
          average: M, the first moment or its look-ahead, [N, m, n].
          info: the step.
          eps: keeps the quotient finite.
        """
        correction = info.corrections[0]
        if self.second is None:
            return average / correction
        root = self.second.sqrt()
        scale = info.adam_scale if self.kind == "adam" else correction
        root.mul_(scale).add_(correction * eps)
        return torch.div(average, root, out=root)

    def is_fusable(self, options: StepOptions) -> bool:
        """Whether torch's fused AdamW takes the same step.

        It knows Adam without look-ahead or momentum, with decoupled decay.
        """
        return (
            self.kind == "adam"
            and options.fused is not False
            and self.second is not None
            and has_fused_adam(self.second.device.type)
            and not options.nesterov
            and options.momentum == 0
            and options.betas[0] > 0
            and options.l2 == 0
            and not isinstance(options.decay, Tensor)
        )


def fused_adam(
    weights: list[Tensor],
    grads: list[Tensor],
    state: AdamState,
    finite: Tensor,
    options: StepOptions,
) -> None:
    """Steps contiguous weights by their gradients in place, by torch's fused AdamW.

    Args:
      weights, grads: of equal shapes, and of the dtype of the state.
      state: first moments and second moments of the same shapes, and step counts, scalars that
        count this step already.
      finite: a boolean scalar; where False nothing changes.
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
        found_inf=(~finite).float(),
    )


def is_fusable(tensors: Sequence[Tensor], dtype: torch.dtype) -> bool:
    """Whether the fused kernel can read all tensors."""
    return all(tensor.dtype == dtype and tensor.is_contiguous() for tensor in tensors)


def bias_correction(beta: float, steps: Tensor, out: Tensor | None = None) -> Tensor:
    """1 - beta**steps, accurate for beta near 1; steps of 0 count as 1.

    (Kingma & Ba 2015, arXiv:1412.6980, section 3.)

    Args:
      beta: EMA weight in [0, 1).
      steps: number of averaged gradients, float, any shape.
      out: takes the result; None for a new tensor.
    """
    if beta == 0.0:
        return torch.ones_like(steps) if out is None else out.fill_(1.0)
    return torch.neg(torch.expm1(steps.clamp_min(1) * math.log(beta)), out=out)


def look_ahead(average: Tensor, grad: Tensor, beta: float) -> Tensor:
    """beta m + (1-beta) g, NAdam's first moment (Dozat 2016) without a momentum schedule."""
    return torch.lerp(grad, average, beta)


def block_norms(blocks: Tensor) -> Tensor:
    """The Frobenius norm of each block [N, m, n], as [N, 1, 1]."""
    return torch.linalg.matrix_norm(blocks, keepdim=True)


def grafting_ratio(direction: Tensor, magnitude: Tensor) -> tuple[Tensor, Tensor]:
    """Factors that give a direction another's norm, and whether they are usable.

    (Agarwal et al. 2020, arXiv:2002.11803; per block as in Anil et al. 2020, arXiv:2002.09018.)
    Not usable where the direction is zero, or too small or too large for its norm to be accurate:
    the diagonal method's own step must be taken there.

    Args:
      direction, magnitude: norms, of one shape.

    Returns:
      the ratios, and booleans.
    """
    smallest = math.sqrt(torch.finfo(direction.dtype).tiny) * 10
    usable = (direction > smallest) & (direction < math.inf)
    return magnitude / direction.clamp_min(smallest), usable
