"""From a stack of gradients to a stack of directions."""

import torch
from torch import Tensor

from submission.shampoo import factors, roots
from submission.shampoo.blocking import StackLayout


class RootInverse:
    """Shampoo: S = L^(-e) M R^(-e) for every block of a stack.

    (Gupta et al. 2018, arXiv:1802.09568, algorithm 1.) A side without a factor is left as it is.

    Attributes:
      factors: L [N, m, m] and R [N, n, n]; None for a side without a factor.
      inverse_roots: L^(-e) and R^(-e) as of the last refresh, each up to a positive factor, since
        grafting fixes the magnitude; zero before the first trusted root, which makes the direction
        zero and grafting fall back to AdamW's.
      failures: roots that could not be trusted and kept their predecessor; a count on the device.
    """

    def __init__(self, layout: StackLayout, dtype: torch.dtype, device: torch.device) -> None:
        self.factors: list[Tensor | None] = []
        self.inverse_roots: list[Tensor | None] = []
        for size, has_factor in zip((layout.height, layout.width), layout.sides, strict=True):
            shape = (layout.blocks, size, size)
            for tensors in (self.factors, self.inverse_roots):
                zeros = torch.zeros(shape, dtype=dtype, device=device) if has_factor else None
                tensors.append(zeros)
        self.failures = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def sides(self) -> int:
        """How many sides have a factor: 1 or 2."""
        return sum(factor is not None for factor in self.factors)

    def update(self, grad: Tensor, decay: Tensor, weight: float) -> None:
        """Averages G G^T and G^T G into the factors; see `factors.update_`."""
        left, right = self.factors
        factors.update_(left, right, grad, decay, weight)

    def refresh(self, exponent: float | None, damping: float, live: Tensor) -> None:
        """Takes the inverse roots of the factors anew.

        The factors' bias correction is a positive factor too, and left out.

        Args:
          exponent: e, or None for 1/(2*sides).
          damping: as a fraction of each factor's largest eigenvalue.
          live: booleans that broadcast to [N, 1, 1]; where False the old roots stay.
        """
        power = 1 / (2 * self.sides) if exponent is None else exponent
        for factor, inverse_root in zip(self.factors, self.inverse_roots, strict=True):
            if factor is None or inverse_root is None:
                continue
            fresh, _, trusted = roots.inverse_root(factor, power, damping)
            trusted = trusted[:, None, None]
            torch.where(trusted & live, fresh, inverse_root, out=inverse_root)
            self.failures.add_((~trusted & live).sum())

    def direction(self, average: Tensor) -> Tensor:
        """S for the averaged gradients M, [N, m, n]."""
        left, right = self.inverse_roots
        if left is not None:
            average = left @ average
        if right is not None:
            average = average @ right
        return average
