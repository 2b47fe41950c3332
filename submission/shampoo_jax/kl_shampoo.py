"""KL-Shampoo: factors that minimise a Kullback-Leibler divergence.

(Lin et al. 2025, arXiv:2509.03378.)
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from .blocks import Blocks
from .eigenbasis import Basis, Eigenbasis, rotate_second
from .linalg import damped, product, transposed
from .options import Number
from .preconditioners import SIDES
from .step import Step


class KLShampoo(Eigenbasis):
    """S = S_L^(-e) M S_R^(-e) with the factors of the best-fitting matrix Gaussian.

    S_L <- average of G S_R^(-1) G^T / n, then S_R <- average of G^T S_L^(-1) G / m with the new
    S_L. A prior that counts as one gradient, S_L = S_R = |G|/sqrt(mn) I of the first G that is not
    zero, keeps early factors invertible; where statistics overflow, a block starts from it again.
    The two are kept at equal mean eigenvalues. Eigenvalues are averaged at every step.
    """

    def initial(self, dtype: Any) -> Blocks:
        """See `Preconditioner`."""
        values = {f"{SIDES[side]}_values": jnp.zeros(size, dtype) for side, size in self.present}
        return {**super().initial(dtype), **values, "weight": jnp.zeros((), dtype)}

    @property
    def _is_two_sided(self) -> bool:
        return len(self.present) == 2

    def update_factors(self, state: Blocks, grad: Array, step: Step) -> Blocks:
        """Averages eigenvalues, and factors where they are due."""
        left, right = state.get("left_basis"), state.get("right_basis")
        rotated_left = grad if left is None else product(transposed(left), grad)
        rotated_right = grad if right is None else product(grad, right)
        squares = jnp.square(rotated_left if right is None else product(rotated_left, right))
        scale = squares.mean((-2, -1))
        weight, share = _counted(state["weight"], scale, step)
        rows, columns = (self._values(state, side, scale) for side in (0, 1))
        # Eigenvalues average the diagonals of G S_R^-1 G^T / n and G^T S_L^-1 G / m in the basis.
        by_column = self._inverse(1, columns, step.damping) / self.spec.width
        if left is not None:
            rows = _lerp(rows, (squares * by_column[:, None, :]).sum(-1), share)
        by_row = self._inverse(0, rows, step.damping) / self.spec.height
        if right is not None:
            columns = _lerp(columns, (squares * by_row[:, :, None]).sum(-2), share)
        shift = jnp.ones_like(scale)
        if self._is_two_sided:
            shift = jnp.sqrt(rows.mean(-1) / columns.mean(-1))
        balanced = rows / shift[:, None], columns * shift[:, None]
        sound = jnp.isfinite(balanced[0].sum(-1) + balanced[1].sum(-1))
        new = dict(state)
        for side, _ in self.present:
            values = jnp.where(sound[:, None], balanced[side], self._prior(scale)[:, None])
            name = f"{SIDES[side]}_values"
            new[name] = jnp.where(step.finite, values, state[name])
        weight = jnp.where(sound, weight, step.share2 * (scale > 0))
        new["weight"] = jnp.where(step.finite, weight, state["weight"])
        by_column, by_row = by_column / shift[:, None], by_row * shift[:, None]
        by_column, by_row = (
            jnp.sqrt(jnp.where(sound[:, None], by, 0.0)) for by in (by_column, by_row)
        )
        vectors = {
            0: rotated_right * by_column[:, None, :],
            1: rotated_left * by_row[:, :, None],
        }
        return {**new, **self.averaged(state, vectors, step)}

    def _values(self, state: Blocks, side: int, scale: Array) -> Array:
        """Eigenvalues [K, d] of a side: the prior's where there are none, 1 without a factor."""
        if not self.spec.sides[side]:
            return jnp.ones((len(scale), (self.spec.height, self.spec.width)[side]), scale.dtype)
        values = state[f"{SIDES[side]}_values"]
        return jnp.where(state["weight"][:, None] > 0, values, self._prior(scale)[:, None])

    def _prior(self, scale: Array) -> Array:
        """The eigenvalue [K] of each side's prior."""
        return jnp.sqrt(scale) if self._is_two_sided else scale

    def _inverse(self, side: int, values: Array, damping: Number) -> Array:
        """Of a side's damped eigenvalues, [K, d]; `values` where it has no factor."""
        return 1 / damped(values, damping) if self.spec.sides[side] else values

    def basis_dependent(self, side: int) -> tuple[str, ...]:
        """The side's eigenvalues."""
        return (f"{SIDES[side]}_values",)

    def in_new_basis(
        self, block: Blocks, side: int, change: Array, new: Basis, step: Step
    ) -> Blocks:
        """Eigenvalues in the new basis; their mean stays.

        They take the shape of the factor's, and keep what they have beyond its diagonal in the old
        basis; a factor that lags has not seen what they have.
        """
        name, old = f"{SIDES[side]}_values", block[f"{SIDES[side]}_basis"]
        previous, tiny = block[name], jnp.finfo(old.dtype).tiny
        # What weight the prior still has.
        share, weight = step.share2, block["weight"]
        prior = share * (1 - weight) / jnp.maximum((1 - share) * weight, tiny)
        diagonal = (old * product(block[SIDES[side]], old)).sum(-2)
        mean = previous.mean()
        beyond = previous / jnp.maximum(mean, tiny) - _shape(diagonal, prior)
        beyond = rotate_second(change, jnp.maximum(beyond, 0)[:, None], 0)[:, 0]
        values = jnp.maximum(_shape(new.values, prior) + beyond, 0)
        return {name: values * (mean / values.mean())}

    def direction(self, state: Blocks, average: Array, step: Step) -> Array:
        """S for the first moments M in the basis, [K, m, n]; zero before any statistics."""
        for side, _ in self.present:
            values = state[f"{SIDES[side]}_values"]
            power = damped(values, step.damping) ** -self.exponent
            power = jnp.where(values.max(-1, keepdims=True) > 0, power, 0.0)
            average = average * (power[:, :, None] if side == 0 else power[:, None, :])
        return self.from_basis(state, average)


def _counted(weight: Array, scale: Array, step: Step) -> tuple[Array, Array]:
    """The weights [K] with this gradient, unless all have been zero; its share of the averages."""
    share = jnp.asarray(step.share2, weight.dtype)
    started = jnp.where(weight > 0, weight, share * (scale > 0))
    new = step.decay2 * started + share * (started > 0)
    return new, share / jnp.maximum(new, jnp.finfo(new.dtype).tiny)


def _lerp(old: Array, new: Array, share: Array) -> Array:
    """(1 - share) old + share new, for values [K, d] and shares [K]."""
    return old + share[:, None] * (new - old)


def _shape(values: Array, prior: Array) -> Array:
    """Eigenvalues [d] scaled to a mean of 1, the isotropic prior having a weight of its own."""
    mean = jnp.maximum(values.mean(), jnp.finfo(values.dtype).tiny)
    return (1 - prior) * values / mean + prior
