"""SOAP: Adam in the eigenbases of Shampoo's factors (Vyas et al. 2024, arXiv:2409.11321)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..plan.blocking import StackSpec
from .config import StateConfig
from .counters import Tick
from .preconditioners import Preconditioner
from .sides import BasisSide, Carried


class BasisPreconditioner(Preconditioner):
    """Blocks [m, n] seen in the eigenbases of their factors: X -> Q_L^T X Q_R and back.

    A block's first gradient must not refresh its bases: in its own singular vectors it has zeros
    for second moments nearly everywhere, and rounding errors would be steps of full length.
    """

    refreshes_at_first = False
    # Whether the sides keep eigenvalues, see `BasisSide`.
    _with_eigenvalues: bool

    def _side(
        self, dimension: int, factor_dtype: torch.dtype, root_dtype: torch.dtype
    ) -> BasisSide:
        return BasisSide(dimension, self.weight, factor_dtype, root_dtype, self._with_eigenvalues)

    def turn_back(self, first: Tensor | None) -> None:
        """See `Preconditioner.turn_back`."""
        for number, side in enumerate(self.bases):
            if side is not None:
                carried = [Carried(moment, True, number) for moment in self.squares().values()]
                if first is not None:
                    carried.append(Carried(first, False, number))
                side.turn_back(carried)

    @property
    def bases(self) -> tuple[BasisSide | None, ...]:
        """The sides by their own type."""
        return tuple(side if isinstance(side, BasisSide) else None for side in self.sides)

    def into(self, grad: Tensor) -> Tensor:
        """Q_L^T G Q_R."""
        for number, side in enumerate(self.bases):
            if side is not None:
                grad = side.into(grad, number)
        return grad

    def out(self, direction: Tensor) -> Tensor:
        """Q_L X Q_R^T."""
        for number, side in enumerate(self.bases):
            if side is not None:
                direction = side.out(direction, number)
        return direction


class EigenvalueCorrected(BasisPreconditioner):
    """S = Q_L [M / (sqrt(V / c2) + eps)] Q_R^T, with M and V averaged in the basis.

    At a change of basis V is carried over as the diagonal of a rotated covariance,
    see `eigenbasis.carry_second`; kept as it was, it would belong to other directions.
    """

    exponent = 0.5
    _with_eigenvalues = False

    def __init__(
        self, layout: StackSpec, config: StateConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(layout, config, dtype, device)
        shape = (layout.blocks, layout.height, layout.width)
        self.second = torch.zeros(shape, dtype=dtype, device=device)

    def track(self, grad: Tensor, tick: Tick, options: Mapping[str, Any]) -> None:
        """V <- beta2 V + (1 - beta2) G' o G' for the gradients G' in the basis."""
        weight = 1 - options["betas"][1]
        self.second.mul_(tick.decays[1]).addcmul_(grad, grad, value=weight)

    def direction(self, average: Tensor, tick: Tick, options: Mapping[str, Any]) -> Tensor:
        """S for the first moments M in the basis, [N, m, n]."""
        root = self.second.sqrt().mul_(tick.corrections[1].rsqrt()).add_(options["eps"])
        return self.out(torch.div(average, root, out=root))

    def squares(self) -> dict[str, Tensor]:
        """V."""
        return {"basis_sq": self.second}
