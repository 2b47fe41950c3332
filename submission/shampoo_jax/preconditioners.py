"""What the three methods share: factors, and the protocol that a stack's step calls.

State is a dict of arrays [K, ...], a row for every block that a device holds.
"""

import abc
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from ..plan.blocking import StackSpec
from ..plan.options import ShampooOptions
from .linalg import inverse_root, product, transposed
from .refresh import Blocks, Due, Lanes, refresh_blocks
from .step import Step

SIDES = ("left", "right")


class Preconditioner(abc.ABC):
    """The preconditioner of blocks [m, n] with one Kronecker factor or two.

    A step calls `update_factors`, `refresh`, `to_basis`, `update_moments` and `direction`. First
    moments live in the coordinates of `to_basis`.

    Args:
      spec: the blocks, at least one of whose sides has a factor.
      options: of the transformation.
    """

    def __init__(self, spec: StackSpec, options: ShampooOptions) -> None:
        self.spec, self.options = spec, options
        dimensions = (spec.height, spec.width)
        self.present = [(side, dimensions[side]) for side in (0, 1) if spec.sides[side]]

    @abc.abstractmethod
    def initial(self, dtype: Any) -> Blocks:
        """The state of one block, without the leading dimension."""

    def factors(self, dtype: Any) -> Blocks:
        """Factors of zeros, and counters of refreshes that could not be trusted, of one block."""
        state = {}
        for side, size in self.present:
            state[SIDES[side]] = jnp.zeros((size, size), dtype)
            state[f"{SIDES[side]}_failures"] = jnp.zeros((), jnp.int32)
        return state

    def update_factors(self, state: Blocks, grad: Array, step: Step) -> Blocks:
        """L <- b L + (1 - b) G G^T and R <- b R + (1 - b) G^T G, for G [K, m, n].

        (Gupta et al. 2018, arXiv:1802.09568, algorithm 1, with an EMA instead of a sum.)
        """
        vectors = {0: grad, 1: transposed(grad)}
        return {**state, **self.averaged(state, vectors, step)}

    def averaged(self, state: Blocks, vectors: dict[int, Array], step: Step) -> Blocks:
        """The factors once they have averaged X X^T, X [K, d, k] by side; zero X where skipped."""

        def average(factors: list[Array]) -> list[Array]:
            pairs = zip(self.present, factors, strict=True)
            return [
                step.factor_decay * factor
                + step.factor_share * product(vectors[side], transposed(vectors[side]))
                for (side, _), factor in pairs
            ]

        factors = [state[SIDES[side]] for side, _ in self.present]
        if self.options.factor_interval == 1:
            factors = average(factors)
        else:
            factors = lax.cond(step.averages, average, lambda same: same, factors)
        return {
            SIDES[side]: factor for (side, _), factor in zip(self.present, factors, strict=True)
        }

    @abc.abstractmethod
    def refresh(self, state: Blocks, due: dict[int, Due], lanes: Lanes, step: Step) -> Blocks:
        """Replaces what is derived from the factors of the blocks that are due, by side."""

    def to_basis(self, state: Blocks, matrices: Array) -> Array:
        """Matrices [K, m, n] in the coordinates of the first moment."""
        del state
        return matrices

    def from_basis(self, state: Blocks, matrices: Array) -> Array:
        """Back to the parameters' coordinates."""
        del state
        return matrices

    def update_moments(self, state: Blocks, grad: Array, step: Step) -> Blocks:
        """Averages second moments of the gradient, in the coordinates of `to_basis`."""
        del grad, step
        return state

    @abc.abstractmethod
    def direction(self, state: Blocks, average: Array, step: Step) -> Array:
        """S in the parameters' coordinates for the first moments [K, m, n] of `to_basis`."""

    @property
    @abc.abstractmethod
    def default_exponent(self) -> float:
        """The inverse power where the user gives none."""

    @property
    def exponent(self) -> float:
        """The inverse power."""
        given = self.options.inverse_power
        return self.default_exponent if given is None else given


class InverseRoot(Preconditioner):
    """Shampoo: S = L^(-e) M R^(-e) (Gupta et al. 2018, arXiv:1802.09568, algorithm 1).

    A side without a factor is left as it is. Roots are zero before the first that can be trusted,
    which makes the direction zero, and grafting fall back to the diagonal method.
    """

    @property
    def default_exponent(self) -> float:
        """1/4 for two factors, 1/2 for one."""
        return 1 / (2 * len(self.present))

    def initial(self, dtype: Any) -> Blocks:
        """See `Preconditioner`."""
        roots = {
            f"{SIDES[side]}_root": jnp.zeros((size, size), dtype) for side, size in self.present
        }
        return {**self.factors(dtype), **roots}

    def refresh(self, state: Blocks, due: dict[int, Due], lanes: Lanes, step: Step) -> Blocks:
        """Inverse roots of the averages; one that cannot be trusted keeps its predecessor."""
        weight = jnp.where(step.factor_weight > 0, step.factor_weight, 1.0)
        for side, _ in self.present:
            factor, root, failures = (SIDES[side] + end for end in ("", "_root", "_failures"))

            def refreshed(
                block: Blocks, factor: str = factor, root: str = root, failures: str = failures
            ) -> Blocks:
                new, trusted = inverse_root(block[factor] / weight, self.exponent, step.damping)
                return {
                    root: jnp.where(trusted, new, block[root]),
                    failures: block[failures] + ~trusted,
                }

            # Without any average there is nothing to take a root of.
            live = step.finite & (step.factor_weight > 0)
            stop = jnp.where(live, due[side].stop, due[side].start)
            own = Due(due[side].start, stop)
            state = refresh_blocks(state, (root, failures), own, lanes, refreshed)
        return state

    def direction(self, state: Blocks, average: Array, step: Step) -> Array:
        """S for the averaged gradients M, [K, m, n]."""
        del step
        for side, _ in self.present:
            root = state[f"{SIDES[side]}_root"]
            average = product(root, average) if side == 0 else product(average, root)
        return average
