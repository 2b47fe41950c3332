"""SOAP: Adam in the eigenbases of Shampoo's factors (Vyas et al. 2024, arXiv:2409.11321)."""

from typing import Any

import torch
from torch import Tensor

from ..plan.blocking import StackSpec
from . import eigenbasis
from .config import StateConfig
from .eigh import damped
from .preconditioners import Eigenbasis, by_side
from .step import StepInfo, StepOptions
from .symmetric_stack import Blocks


class Soap(Eigenbasis):
    """SOAP: S = Q_L [M / (sqrt(V / c2) + eps)] Q_R^T, with M and V averaged in the basis.

    At a change of basis V is rotated as the diagonal of a covariance, see
    `eigenbasis.rotate_second`, and its rows and columns are then given the sums that the factors
    tell, see `eigenbasis.match_eigenvalues`. Kept as it was, as in Vyas et al.'s algorithm 4, it
    would belong to other directions.
    """

    def __init__(
        self, spec: StackSpec, config: StateConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(spec, config, dtype, device)
        shape = (spec.blocks, spec.height, spec.width)
        self.second = torch.zeros(shape, dtype=dtype, device=device)

    def update_moments(self, grad: Tensor, info: StepInfo, options: StepOptions) -> None:
        """V <- beta2 V + (1 - beta2) G' o G' for the gradients G' in the basis."""
        weight = 1 - options.betas[1]
        self.second.mul_(info.rates.decays[1]).addcmul_(grad, grad, value=weight)

    def direction(
        self, average: Tensor, info: StepInfo, options: StepOptions, out: Tensor
    ) -> Tensor:
        """S for the first moments M in the basis, [N, m, n]."""
        root = self.second.sqrt().mul_(info.rates.corrections[1] ** -0.5).add_(options.eps)
        return out.copy_(self.from_basis(torch.div(average, root, out=root)))

    def compute(self, side: int, blocks: Blocks, options: StepOptions, retry: bool) -> Any:
        """See `Eigenbasis`; also damped eigenvalues, which V is matched to.

        Damped, since along an eigenvector without gradient V would be zero, and rounding errors
        would be steps of full length.
        """
        bases, condition = super().compute(side, blocks, options, retry)
        values = bases.values.clamp_min(0)  # factors in bfloat16 have some below
        return (bases, condition), damped(values, options.damping)

    def install(
        self, side: int, blocks: Blocks, result: Any, live: Tensor, first: Tensor | None
    ) -> None:
        """See `Eigenbasis`; a block's first gradient is the first that is not zero."""
        decomposition, values = result
        has_second = self.second[blocks].amax((-2, -1)) > 0
        _, where = self._install_bases(side, blocks, decomposition, live & has_second, first)
        matched = eigenbasis.match_eigenvalues(self.second[blocks], values, side)
        self._assign(blocks, matched, where)

    def _rotate_moments(
        self, side: int, blocks: Blocks, change: Tensor, where: Tensor, first: Tensor | None
    ) -> None:
        super()._rotate_moments(side, blocks, change, where, first)
        rotated = eigenbasis.rotate_second(self.second[blocks], *by_side(side, change))
        self._assign(blocks, rotated, where)

    def _assign(self, blocks: Blocks, second: Tensor, where: Tensor) -> None:
        """V <- `second` [n, m, n] at `blocks`, where `where` [n] says so."""
        self.second[blocks] = torch.where(where[:, None, None], second, self.second[blocks])

    def state_tensors(self) -> dict[str, Tensor]:
        """See `Preconditioner.state_tensors`; also V."""
        return {"basis_sq": self.second, **super().state_tensors()}
