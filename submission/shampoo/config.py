"""Every choice a user of Shampoo has, validated; plain values, so that checkpoints stay plain."""

import dataclasses
import math
from typing import Any

from torch import Tensor


def _check(condition: bool, name: str, value: Any, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{name} must be {allowed}, got {value!r}.")


@dataclasses.dataclass(frozen=True)
class BlockingConfig:
    """How parameters become blocks; fixed for a parameter group once it has taken a step.

    Attributes:
      block_size: largest edge of a block. Larger blocks see more of a layer's correlations, at
        block_size**3 for a root (Anil et al. 2020, arXiv:2002.09018, section 3).
      max_dim: a parameter with a longer matricised dimension (an embedding table) falls to AdamW.
      max_aspect: a block whose long side exceeds its short side by more than this factor is
        preconditioned on the short side alone: its long factor would be the average of matrices
        of much too low a rank, at the cost of the largest root.

    Raises:
      ValueError: if a value is out of range; the message names it.
    """

    block_size: int = 1024
    max_dim: int = 65536
    max_aspect: float = 32.0

    def __post_init__(self) -> None:
        _check(
            _is_int(self.block_size) and self.block_size >= 2,
            "block_size",
            self.block_size,
            "an integer >= 2",
        )
        _check(
            _is_int(self.max_dim) and self.max_dim >= 2, "max_dim", self.max_dim, "an integer >= 2"
        )
        _check(self.max_aspect >= 1, "max_aspect", self.max_aspect, "a number >= 1")


@dataclasses.dataclass(frozen=True)
class ShampooConfig(BlockingConfig):
    """All hyperparameters of one parameter group.

    Attributes:
      lr: learning rate, a float or a one-element tensor; read at every step.
      betas: EMA weights of the first moment, and of the factors and the second moment.
      eps: added to the root of the second moment in the grafted AdamW direction.
      weight_decay: decoupled: weights shrink by lr * weight_decay per step.
      exponent: inverse power of each factor; None is 1/(2*sides), so 1/4 for a matrix with two
        factors (Gupta et al. 2018, arXiv:1802.09568) and 1/2 for one preconditioned side.
      damping: added to a factor as a fraction of its largest eigenvalue.
      refresh_interval: steps between inverse roots. Within the first interval they are also
        taken at each power of two, since early factors change fastest.
      nesterov: look-ahead first moment, as in NAdam.

    Raises:
      ValueError: if a value is out of range; the message names it.
    """

    lr: float | Tensor = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    exponent: float | None = None
    damping: float = 1e-6
    refresh_interval: int = 10
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        lr = self.lr
        if isinstance(lr, Tensor):
            _check(lr.numel() == 1, "lr", tuple(lr.shape), "a number or a tensor of one element")
        else:
            _check(_is_finite(lr) and lr >= 0, "lr", lr, "a finite number >= 0")
        _check(len(self.betas) == 2, "betas", self.betas, "two numbers in [0, 1)")
        for beta in self.betas:
            _check(_is_finite(beta) and 0 <= beta < 1, "betas", self.betas, "two numbers in [0, 1)")
        _check(_is_finite(self.eps) and self.eps > 0, "eps", self.eps, "a finite number > 0")
        decay = self.weight_decay
        _check(_is_finite(decay) and decay >= 0, "weight_decay", decay, "a finite number >= 0")
        exponent = self.exponent
        _check(
            exponent is None or (_is_finite(exponent) and 0 < exponent <= 1),
            "exponent",
            exponent,
            "None or a number in (0, 1]",
        )
        _check(
            _is_finite(self.damping) and 0 < self.damping < 1,
            "damping",
            self.damping,
            "a number in (0, 1)",
        )
        interval = self.refresh_interval
        _check(_is_int(interval) and interval >= 1, "refresh_interval", interval, "an integer >= 1")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
