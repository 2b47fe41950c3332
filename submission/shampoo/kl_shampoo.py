"""KL-Shampoo: factors that minimise a Kullback-Leibler divergence.

(Lin et al. 2025, arXiv:2509.03378.)
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..plan.blocking import StackSpec
from .config import StateConfig
from .diagonal import bias_correction
from .factor import FactorAverage
from .preconditioners import Eigenbasis
from .step import StepInfo, StepOptions


class KLShampoo(Eigenbasis):
    """S = S_L^(-e) M S_R^(-e) with the factors of the best-fitting matrix Gaussian.

    S_L <- average of G S_R^(-1) G^T / n and S_R <- average of G^T S_L^(-1) G / m. Their bases
    change at refreshes, their eigenvalues at every step. A prior that counts as one gradient,
    S_L = |G|^2/(mn) I and S_R = I, gives the pair its scale and keeps early factors invertible;
    where statistics overflow because gradients have grown without bound, the block starts from it
    again.
    """

    _has_eigenvalues = True

    def __init__(
        self, spec: StackSpec, config: StateConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(spec, config, dtype, device)
        self._shape = spec.height, spec.width
        self._rotated: Tensor | None = None

    def update_factors(self, grad: Tensor, info: StepInfo, options: StepOptions) -> None:
        """Averages factors where they are due, and eigenvalues."""
        scale = grad.square().mean((-2, -1), keepdim=True)
        scale = torch.where(scale > 0, scale, 1.0)
        values = self._eigenvalues(scale)
        left, right = self.bases
        inverses = [
            value if basis is None else _damped(value, options.damping).reciprocal()
            for value, basis in zip(values, self.bases, strict=True)
        ]
        rotated_left = grad if left is None else left.rotate(grad, 0)
        rotated_right = grad if right is None else right.rotate(grad, 1)
        rotated = rotated_left if right is None else right.rotate(rotated_left, 1)
        squares = rotated.square()
        # Rows are G S_R^-1 G^T / n in the basis, columns G^T S_L^-1 G / m, on their diagonals.
        height, width = self._shape
        rows = (squares * inverses[1].mT).sum(-1, keepdim=True) / width
        columns = (squares * inverses[0]).sum(-2, keepdim=True).mT / height
        sound = (rows.sum(-2, keepdim=True) + columns.sum(-2, keepdim=True)).isfinite()
        self._update_eigenvalues(values, (rows, columns), scale, sound, info, options)
        average = FactorAverage.of(info, options)
        if average is not None:
            vectors = (
                rotated_right * (inverses[1].mT / width).sqrt(),
                (rotated_left * (inverses[0] / height).sqrt()).mT,
            )
            self._average_factors(average, vectors, scale, sound)
        self._rotated = rotated

    def _eigenvalues(self, scale: Tensor) -> list[Tensor]:
        """Eigenvalues [N, d, 1] of both sides; the prior's where there is none yet."""
        both = [torch.ones_like(scale), torch.ones_like(scale)]
        for side, values in self._tracked():
            column = values.unsqueeze(-1)
            prior = self._prior(side, scale)
            both[side] = torch.where(column.amax(-2, keepdim=True) > 0, column, prior)
        return both

    def _tracked(self) -> Iterator[tuple[int, Tensor]]:
        """The sides that have a factor, and their eigenvalues [N, d]."""
        for side, basis in enumerate(self.bases):
            if basis is not None and basis.eigenvalues is not None:
                yield side, basis.eigenvalues

    def _prior(self, side: int, scale: Tensor) -> Tensor:
        """The eigenvalue [N, 1, 1] of a side's prior.

        The left factor has the pair's scale, the right one where it stands alone.
        """
        has_scale = side == 0 or self.bases[0] is None
        return scale if has_scale else torch.ones_like(scale)

    def _update_eigenvalues(
        self,
        values: list[Tensor],
        observed: tuple[Tensor, Tensor],
        scale: Tensor,
        sound: Tensor,
        info: StepInfo,
        options: StepOptions,
    ) -> None:
        """lambda <- b lambda + (1-b) observed, b that of an average that includes the prior."""
        beta = options.betas[1]
        steps = info.steps
        decay = beta * bias_correction(beta, steps) / bias_correction(beta, steps + 1)
        for side, eigenvalues in self._tracked():
            new = decay * values[side] + (1 - decay) * observed[side]
            new = torch.where(sound, new, self._prior(side, scale)).squeeze(-1)
            live = info.live.flatten(1) if info.live.dim() else info.live
            eigenvalues.copy_(torch.where(live, new, eigenvalues))

    def _average_factors(
        self,
        average: FactorAverage,
        vectors: tuple[Tensor, Tensor],
        scale: Tensor,
        sound: Tensor,
    ) -> None:
        live = average.decay < 1
        restart = live & ((self.weight <= 0) | ~sound)
        decay = torch.where(restart, 0.0, average.decay)
        # The prior is an observation of its own, which a sound gradient follows.
        share = torch.where(sound, average.decay, 1.0) * average.weight * restart
        for side, factor in self.present:
            factor.matrix.average(
                torch.where(sound & live, average.observed(vectors[side]), 0.0),
                decay,
                average.weight,
                average.seed,
                diagonal=(share * self._prior(side, scale)).flatten(1),
            )
        first = share + sound.to(scale.dtype) * average.weight
        following = self.weight * average.decay + (1 - average.decay)
        self.weight.copy_(torch.where(restart, first, following))

    def to_basis(self, grad: Tensor) -> Tensor:
        """Q_L^T G Q_R, from `update_factors` unless a basis has changed since."""
        rotated, self._rotated = self._rotated, None
        return super().to_basis(grad) if rotated is None else rotated

    def install(self, *args: Any, **kwargs: Any) -> None:
        """See `Preconditioner.install`."""
        self._rotated = None
        super().install(*args, **kwargs)

    def direction(self, average: Tensor, info: StepInfo, options: StepOptions) -> Tensor:
        """S for the first moments M in the basis, [N, m, n]."""
        del info
        for side, eigenvalues in self._tracked():
            power = _damped(eigenvalues.unsqueeze(-1), options.damping)
            power = power.pow(-self.exponent(options))
            average = average * (power if side == 0 else power.mT)
        return self.from_basis(average)


def _damped(values: Tensor, damping: float) -> Tensor:
    """Eigenvalues [N, d, 1] plus a fraction of the largest, and above zero."""
    limit = torch.finfo(values.dtype).tiny
    return (values + damping * values.amax(-2, keepdim=True)).clamp_min(limit)
