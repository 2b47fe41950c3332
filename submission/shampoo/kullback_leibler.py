"""KL-Shampoo: factors that minimise a Kullback-Leibler divergence.

(Lin et al. 2025, arXiv:2509.03378.)
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..plan.blocking import StackSpec
from .config import StateConfig
from .counters import Tick, bias_correction
from .eigenvalue_corrected import BasisPreconditioner
from .numerics import tiny
from .preconditioners import FactorAverage


class KullbackLeibler(BasisPreconditioner):
    """S = S_L^(-e) M S_R^(-e) with the factors of the best-fitting matrix Gaussian.

    S_L <- average of G S_R^(-1) G^T / n and S_R <- average of G^T S_L^(-1) G / m. Their bases
    change at refreshes, their eigenvalues at every step. A prior that counts as one gradient,
    S_L = |G|^2/(mn) I and S_R = I, gives the pair its scale and keeps early factors invertible;
    where statistics overflow because gradients have grown beyond all measure, the block starts
    from it again.
    """

    exponent = 0.5
    _with_eigenvalues = True

    def __init__(
        self, layout: StackSpec, config: StateConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(layout, config, dtype, device)
        self._shape = layout.height, layout.width
        self._seen: Tensor | None = None

    def observe(self, grad: Tensor, tick: Tick, options: Mapping[str, Any]) -> None:
        """Averages factors where they are due, and eigenvalues."""
        scale = grad.square().mean((-2, -1), keepdim=True)
        scale = torch.where(scale > 0, scale, 1.0)
        values = self._eigenvalues(scale)
        left, right = self.bases
        inverses = [
            each if side is None else _damped(each, options["damping"]).reciprocal()
            for each, side in zip(values, self.bases, strict=True)
        ]
        turned_left = grad if left is None else left.into(grad, 0)
        turned_right = grad if right is None else right.into(grad, 1)
        turned = turned_left if right is None else right.into(turned_left, 1)
        squares = turned.square()
        # Rows are G S_R^-1 G^T / n in the basis, columns G^T S_L^-1 G / m, on their diagonals.
        height, width = self._shape
        rows = (squares * inverses[1].mT).sum(-1, keepdim=True) / width
        columns = (squares * inverses[0]).sum(-2, keepdim=True).mT / height
        sound = (rows.sum(-2, keepdim=True) + columns.sum(-2, keepdim=True)).isfinite()
        self._track_eigenvalues(values, (rows, columns), scale, sound, tick, options)
        average = FactorAverage.of(tick, options)
        if average is not None:
            vectors = (
                turned_right * (inverses[1].mT / width).sqrt(),
                (turned_left * (inverses[0] / height).sqrt()).mT,
            )
            self._average_factors(average, vectors, scale, sound)
        self._seen = turned

    def _eigenvalues(self, scale: Tensor) -> list[Tensor]:
        """Eigenvalues [N, d, 1] of both sides; the prior's where there is none yet."""
        found = []
        for number, side in enumerate(self.bases):
            if side is None or side.eigenvalues is None:
                found.append(torch.ones_like(scale))
                continue
            values = side.eigenvalues.unsqueeze(-1)
            prior = self._prior(number, scale)
            found.append(torch.where(values.amax(-2, keepdim=True) > 0, values, prior))
        return found

    def _prior(self, number: int, scale: Tensor) -> Tensor:
        """The eigenvalue [N, 1, 1] of a side's prior.

        The left factor carries the pair's scale, the right one where it stands alone.
        """
        has_scale = number == 0 or self.bases[0] is None
        return scale if has_scale else torch.ones_like(scale)

    def _track_eigenvalues(
        self,
        values: list[Tensor],
        seen: tuple[Tensor, Tensor],
        scale: Tensor,
        sound: Tensor,
        tick: Tick,
        options: Mapping[str, Any],
    ) -> None:
        """lambda <- b lambda + (1-b) seen, b being that of an average with the prior in it."""
        beta = options["betas"][1]
        steps = tick.steps
        decay = beta * bias_correction(beta, steps) / bias_correction(beta, steps + 1)
        for number, side in enumerate(self.bases):
            if side is None or side.eigenvalues is None:
                continue
            prior = self._prior(number, scale)
            fresh = decay * values[number] + (1 - decay) * seen[number]
            fresh = torch.where(sound, fresh, prior).squeeze(-1)
            live = tick.live.flatten(1) if tick.live.dim() else tick.live
            side.eigenvalues.copy_(torch.where(live, fresh, side.eigenvalues))

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
        for number, (side, each) in enumerate(zip(self.bases, vectors, strict=True)):
            if side is None:
                continue
            side.factor.average(
                torch.where(sound & live, average.observed(each), 0.0),
                decay,
                average.weight,
                average.seed,
                diagonal=(share * self._prior(number, scale)).flatten(1),
            )
        first = share + sound.to(scale.dtype) * average.weight
        kept = self.weight * average.decay + (1 - average.decay)
        self.weight.copy_(torch.where(restart, first, kept))

    def into(self, grad: Tensor) -> Tensor:
        """Q_L^T G Q_R, known from `observe` unless the bases have changed since."""
        seen, self._seen = self._seen, None
        return super().into(grad) if seen is None else seen

    def install(self, *args: Any, **kwargs: Any) -> None:
        """See `Preconditioner.install`."""
        self._seen = None
        super().install(*args, **kwargs)

    def track(self, grad: Tensor, tick: Tick, options: Mapping[str, Any]) -> None:
        """Nothing: `observe` has done it, before the bases changed."""

    def direction(self, average: Tensor, tick: Tick, options: Mapping[str, Any]) -> Tensor:
        """S for the first moments M in the basis, [N, m, n]."""
        del tick
        for number, side in enumerate(self.bases):
            if side is None or side.eigenvalues is None:
                continue
            damped = _damped(side.eigenvalues.unsqueeze(-1), options["damping"])
            power = damped.pow(-options["exponent"])
            average = average * (power if number == 0 else power.mT)
        return self.out(average)


def _damped(values: Tensor, damping: float) -> Tensor:
    """Eigenvalues [N, d, 1] plus a fraction of the largest, and above zero."""
    return (values + damping * values.amax(-2, keepdim=True)).clamp_min(tiny(values))
