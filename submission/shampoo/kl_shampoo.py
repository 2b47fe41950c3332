"""KL-Shampoo: factors that minimise a Kullback-Leibler divergence.

(Lin et al. 2025, arXiv:2509.03378.)
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..plan.blocking import StackSpec
from . import eigenbasis
from .config import StateConfig
from .eigh import damped
from .preconditioners import Eigenbasis
from .step import Number, StepInfo, StepOptions
from .symmetric_stack import Blocks


class KLShampoo(Eigenbasis):
    """S = S_L^(-e) M S_R^(-e) with the factors of the best-fitting matrix Gaussian.

    S_L <- average of G S_R^(-1) G^T / n, then S_R <- average of G^T S_L^(-1) G / m with the new
    S_L, in turn as in Dutilleul 1999 (J. Stat. Comput. Simul. 64(2), 105-123). The scale of the
    pair is then that of Adam's second moment with beta2^2. With S_L as it was before, a gradient
    that outgrows its predecessors would count with its fourth power.

    A prior that counts as one gradient, S_L = S_R = |G|/sqrt(mn) I of the first G that is not zero,
    keeps early factors invertible; where statistics overflow, the block starts from it again. The
    two are kept at equal mean eigenvalues: left to themselves, one would grow and the other shrink
    for ever where rows or columns of G stay zero.

    Eigenvalues are averaged at every step; a refresh changes their shape and not their mean, since
    the averaged matrices may be rounded.

    Attributes:
      eigenvalues: [N, d], of the sides that have a factor.
    """

    def __init__(
        self, spec: StackSpec, config: StateConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(spec, config, dtype, device)
        self.eigenvalues = {
            side: self.weight.new_zeros(spec.blocks, factor.dimension)
            for side, factor in self.factors.items()
        }
        self._shape = spec.height, spec.width
        self._rotated: Tensor | None = None

    def update_factors(self, grad: Tensor, info: StepInfo, options: StepOptions) -> bool:
        """Averages eigenvalues and factors; see `Preconditioner`."""
        left, right = self.bases.get(0), self.bases.get(1)
        rotated_left = grad if left is None else left.rotate(grad, 0)
        rotated_right = grad if right is None else right.rotate(grad, 1)
        rotated = rotated_left if right is None else right.rotate(rotated_left, 1)
        squares = rotated.square()
        scale = squares.mean((-2, -1), keepdim=True)
        rows, columns = self._eigenvalues(scale)
        share = self._count(scale, info)
        height, width = self._shape
        # Eigenvalues average the diagonals of G S_R^-1 G^T / n and G^T S_L^-1 G / m in the basis.
        by_column = self._inverse(1, columns, options.damping) / width
        if left is not None:
            rows = rows.lerp((squares * by_column.mT).sum(-1, keepdim=True), share)
        by_row = self._inverse(0, rows, options.damping) / height
        if right is not None:
            columns = columns.lerp((squares * by_row).sum(-2, keepdim=True).mT, share)
        rows, columns, shift = self._balanced(rows, columns)
        sound = self._assign((rows, columns), scale, info)
        by_column, by_row = by_column / shift, by_row * shift
        by_column, by_row = (torch.where(sound, by, 0).sqrt() for by in (by_column, by_row))
        vectors = rotated_right * by_column.mT, (rotated_left * by_row).mT
        for side, factor in self.factors.items():
            pairs = factor.matrix.pairs(vectors[side])
            decay, weight = info.rates.decays[1], 1 - options.betas[1]
            factor.matrix.average(pairs, decay, weight, options.refresh_step)
        self._rotated = rotated
        return True

    def _count(self, scale: Tensor, info: StepInfo) -> Tensor:
        """Counts this gradient unless all have been zero; its share of the averages, [N, 1, 1]."""
        decay, share = info.rates.decays[1], info.rates.shares[1]
        weight = torch.where(self.weight > 0, self.weight, _weight(scale, share))
        self.weight.copy_(decay * weight + _weight(weight, share))
        return share / self.weight.clamp_min(torch.finfo(scale.dtype).tiny)

    def _eigenvalues(self, scale: Tensor) -> list[Tensor]:
        """Eigenvalues [N, d, 1] of both sides; the prior's where there is none yet."""
        eigenvalues, prior = [torch.ones_like(scale), torch.ones_like(scale)], self._prior(scale)
        for side, values in self.eigenvalues.items():
            eigenvalues[side] = torch.where(self.weight > 0, values.unsqueeze(-1), prior)
        return eigenvalues

    def _prior(self, scale: Tensor) -> Tensor:
        """The eigenvalue [N, 1, 1] of each side's prior."""
        return scale if len(self.bases) == 1 else scale.sqrt()

    def _inverse(self, side: int, values: Tensor, damping: float) -> Tensor:
        """Of a side's damped eigenvalues, [N, d, 1]; `values` where it has no factor."""
        return values if side not in self.bases else damped(values, damping, dim=-2).reciprocal()

    def _balanced(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvalues [N, d, 1] of equal mean, and by what the rows were divided, [N, 1, 1].

        NaN where a side is zero.
        """
        means = rows.mean(-2, keepdim=True), columns.mean(-2, keepdim=True)
        if len(self.bases) == 1:
            return rows, columns, torch.ones_like(means[0])
        shift = (means[0] / means[1]).sqrt()
        return rows / shift, columns * shift, shift

    def _assign(self, values: Sequence[Tensor], scale: Tensor, info: StepInfo) -> Tensor:
        """Takes new eigenvalues [N, d, 1], the prior's where they overflow.

        Returns:
          where they do not, [N, 1, 1].
        """
        rows, columns = values
        sound = (rows.sum(-2, keepdim=True) + columns.sum(-2, keepdim=True)).isfinite()
        live = info.live.flatten(1) if info.live.dim() else info.live
        prior = self._prior(scale)
        for side, eigenvalues in self.eigenvalues.items():
            new = torch.where(sound, values[side], prior).squeeze(-1)
            eigenvalues.copy_(torch.where(live, new, eigenvalues))
        self.weight.copy_(torch.where(sound, self.weight, _weight(scale, info.rates.shares[1])))
        return sound

    def to_basis(self, grad: Tensor) -> Tensor:
        """Q_L^T G Q_R, from `update_factors` unless a basis has changed since."""
        rotated, self._rotated = self._rotated, None
        return super().to_basis(grad) if rotated is None else rotated

    def compute(self, side: int, blocks: Blocks, options: StepOptions, retry: bool) -> "_Refreshed":
        """See `Preconditioner.compute`."""
        decomposition = super().compute(side, blocks, options, retry)
        matrices = self.factors[side].dense(blocks)
        old = self.bases[side].vectors[blocks].to(matrices.dtype)
        diagonal = (old * (matrices @ old)).sum(-2)
        # What weight the prior still has.
        beta, weight = options.betas[1], self.weight[blocks].squeeze(-1)
        limit = torch.finfo(weight.dtype).tiny
        prior = (1 - beta) * (1 - weight) / (beta * weight).clamp_min(limit)
        return _Refreshed(
            decomposition, _shape(decomposition[0].values, prior), _shape(diagonal, prior)
        )

    def install(
        self, side: int, blocks: Blocks, result: Any, live: Tensor, first: Tensor | None
    ) -> None:
        """See `Preconditioner.install`.

        Eigenvalues take the shape of the factor's, and keep what they have beyond its diagonal in
        the old basis; a factor that lags has not seen what they have. Their mean stays.
        """
        self._rotated = None
        change, where = self._install_bases(side, blocks, result.decomposition, live, first)
        eigenvalues = self.eigenvalues[side]
        previous, limit = eigenvalues[blocks], torch.finfo(eigenvalues.dtype).tiny
        mean = previous.mean(-1, keepdim=True)
        beyond = (previous / mean.clamp_min(limit) - result.old).clamp_min(0).unsqueeze(-1)
        values = result.new + eigenbasis.rotate_second(beyond, change, None).squeeze(-1)
        values = values.clamp_min(0)
        values = values * (mean / values.mean(-1, keepdim=True))
        eigenvalues[blocks] = torch.where(where[:, None], values, previous)

    def direction(
        self, average: Tensor, info: StepInfo, options: StepOptions, out: Tensor
    ) -> Tensor:
        """S for the first moments M in the basis, [N, m, n]; zero before any statistics."""
        del info
        for side, eigenvalues in self.eigenvalues.items():
            values = eigenvalues.unsqueeze(-1)
            power = damped(values, options.damping, dim=-2).pow(-self.exponent(options))
            power = power * (values.amax(-2, keepdim=True) > 0)
            average = average * (power if side == 0 else power.mT)
        return out.copy_(self.from_basis(average))

    def _derived(self, side: int) -> dict[str, Tensor]:
        return {**super()._derived(side), "_eigenvalues": self.eigenvalues[side]}


class _Refreshed(NamedTuple):
    """Of `KLShampoo.compute`: what `Eigenbasis.compute` returns, and factors' diagonals, `_shape`d.

    Attributes:
      decomposition: bases and condition numbers.
      new: diagonals in these bases, [n, d].
      old: diagonals in the bases before, [n, d].
    """

    decomposition: Any
    new: Tensor
    old: Tensor


def _weight(values: Tensor, share: Number) -> Tensor:
    """What a gradient counts: its share where `values` are above zero, else nothing."""
    return (values > 0).to(values.dtype) * share


def _shape(values: Tensor, prior: Tensor) -> Tensor:
    """Eigenvalues [n, d] scaled to a mean of 1, the isotropic prior having a weight of [n, 1]."""
    mean = values.mean(-1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
    return (1 - prior) * values / mean + prior
