"""SOAP: Adam in the eigenbases of Shampoo's factors (Vyas et al. 2024, arXiv:2409.11321)."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from .blocks import Blocks
from .eigenbasis import Basis, Eigenbasis, match_eigenvalues, rotate_second
from .linalg import damped
from .step import Step


class Soap(Eigenbasis):
    """S = Q_L [M / (sqrt(V / c2) + eps)] Q_R^T, with M and V averaged in the basis.

    At a change of basis V is rotated and matched, see `eigenbasis.rotate_second` and
    `eigenbasis.match_eigenvalues`.
    """

    def initial(self, dtype: Any) -> Blocks:
        """See `Preconditioner`."""
        shape = (self.spec.height, self.spec.width)
        return {**super().initial(dtype), "basis_second": jnp.zeros(shape, dtype)}

    def update_moments(self, state: Blocks, grad: Array, step: Step) -> Blocks:
        """V <- b V + (1 - b) G' o G' for the gradients G' in the basis."""
        old = state["basis_second"]
        new = step.decay2 * old + step.share2 * jnp.square(grad)
        return {**state, "basis_second": jnp.where(step.finite, new, old)}

    def direction(self, state: Blocks, average: Array, step: Step) -> Array:
        """S for the first moments M in the basis, [K, m, n]."""
        root = jnp.sqrt(state["basis_second"] / step.correction2) + step.eps
        return self.from_basis(state, average / root)

    def is_ready(self, block: Blocks) -> Array:
        """A block's first gradient is the first that is not zero."""
        return (block["basis_second"] > 0).any()

    def basis_dependent(self, side: int) -> tuple[str, ...]:
        """V."""
        return ("basis_second",)

    def in_new_basis(
        self, block: Blocks, side: int, change: Array, new: Basis, step: Step
    ) -> Blocks:
        """V as the diagonal of a covariance, with the sums that the factor tells."""
        second = rotate_second(change, block["basis_second"], side)
        # Where V is zero, rounding errors would be steps of full length.
        values = damped(jnp.maximum(new.values, 0), step.damping)
        return {"basis_second": match_eigenvalues(second, values, side)}
