"""Diagonal methods on stacks: their magnitude grafted onto a direction, their step for the rest."""

import math

import torch
from torch import Tensor

from ..plan.options import Grafting
from .counters import Tick
from .numerics import tiny


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

    def observe(self, grad: Tensor, tick: Tick, beta: float) -> None:
        """v <- decay v + (1-beta) g*g, or v + g*g for AdaGrad; grad is zero where v must stay."""
        if self.second is None:
            return
        if self.kind == "adagrad":
            self.second.addcmul_(grad, grad)
        else:
            self.second.mul_(tick.decays[1]).addcmul_(grad, grad, value=1 - beta)

    def direction(self, average: Tensor, tick: Tick, eps: float) -> Tensor:
        """The method's step for a learning rate of 1, in a new tensor.

        SGD: M / c1; AdaGrad (Duchi et al. 2011) and RMSprop (Hinton 2012): (M / c1) / (sqrt(v) +
        eps); Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1): (M / c1) / (sqrt(v / c2) +
        eps).

        Args:
          average: M, the first moment or its look-ahead, [N, m, n].
          tick: the step.
          eps: keeps the quotient finite.
        """
        correction = tick.corrections[0]
        if self.second is None:
            return average / correction
        root = self.second.sqrt()
        scale = tick.adam_scale if self.kind == "adam" else correction
        root.mul_(scale).add_(correction * eps)
        return torch.div(average, root, out=root)


def look_ahead(average: Tensor, grad: Tensor, beta: float) -> Tensor:
    """beta m + (1-beta) g, NAdam's first moment (Dozat 2016) without a momentum schedule."""
    return torch.lerp(grad, average, beta)


def norms(blocks: Tensor) -> Tensor:
    """The Frobenius norm of each block [N, m, n], as [N, 1, 1]."""
    return torch.linalg.matrix_norm(blocks, keepdim=True)


def ratio(direction: Tensor, magnitude: Tensor) -> tuple[Tensor, Tensor]:
    """What to multiply a direction by for it to have another's norm, and where that works.

    (Agarwal et al. 2020, arXiv:2002.11803; per block as in Anil et al. 2020, arXiv:2002.09018.)
    It does not where the direction is zero, or too small or too large for its norm to be accurate:
    there the other direction itself is to be taken.

    Args:
      direction, magnitude: norms, of one shape.

    Returns:
      the ratios, and booleans.
    """
    smallest = math.sqrt(tiny(direction)) * 10
    usable = (direction > smallest) & (direction < math.inf)
    return magnitude / direction.clamp_min(smallest), usable
