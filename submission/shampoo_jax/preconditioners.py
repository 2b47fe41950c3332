"""What the three methods share: factors, and the protocol that a stack's step calls.

State is a dict of arrays [K, ...], a row for every block that a device holds.
"""

import abc
from typing import Any

import jax.numpy as jnp
from jax import Array

from ..plan.blocking import StackSpec
from ..plan.options import ShampooOptions
from . import solvers
from .blocks import Blocks
from .linalg import gram, product
from .refresh import Due, Lanes, refresh_blocks
from .roots import inverse_root
from .rounding import shortened
from .step import Step

SIDES = ("left", "right")


class Preconditioner(abc.ABC):
    """The preconditioner of blocks [m, n] with one Kronecker factor or two.

    A step calls `update_factors`, `refresh`, `to_basis`, `update_moments` and `direction`. First
    moments live in the coordinates of `to_basis`.

    Args:
      spec: the blocks, at least one of whose sides has a factor.
      options: of the transformation.

    Attributes:
      refreshes_at_first: whether all are refreshed at the first step, or none is before the second
        finite gradient.
    """

    refreshes_at_first: bool

    def __init__(self, spec: StackSpec, options: ShampooOptions) -> None:
        self.spec, self.options = spec, options
        dimensions = (spec.height, spec.width)
        self.present = [(side, dimensions[side]) for side in (0, 1) if spec.sides[side]]

    @abc.abstractmethod
    def initial(self, dtype: Any) -> Blocks:
        """The state of one block, without the leading dimension."""

    def factors(self, dtype: Any) -> Blocks:
        """Factors of zeros, and counters of refreshes that could not be trusted, of one block."""
        short = jnp.dtype(dtype if dtype == jnp.float64 else self.options.factor_dtype)
        state = {}
        for side, size in self.present:
            state[SIDES[side]] = jnp.zeros((size, size), short)
            state[f"{SIDES[side]}_failures"] = jnp.zeros((), jnp.int32)
        return state

    def root_dtype(self, dtype: Any) -> Any:
        """Of what is derived from factors, in a state of a dtype."""
        return jnp.dtype(dtype if dtype == jnp.float64 else self.options.root_dtype)

    def update_factors(self, state: Blocks, grad: Array, step: Step) -> Blocks:
        """L <- b L + (1 - b) G G^T and R <- b R + (1 - b) G^T G, for G [K, m, n].

        (Gupta et al. 2018, arXiv:1802.09568, algorithm 1, with an EMA instead of a sum.)
        """
        return {**state, **self.averaged(state, {0: grad, 1: grad}, step)}

    def averaged(self, state: Blocks, matrices: dict[int, Array], step: Step) -> Blocks:
        """The factors once they have averaged X X^T or X^T X, for matrices X [K, m, n] by side."""
        factors = {}
        for side, _ in self.present:
            factor, outer = state[SIDES[side]], gram(matrices[side], side)
            exact = step.decay2 * factor.astype(outer.dtype) + step.share2 * outer
            new = shortened(exact, factor.dtype, step.calls)
            factors[SIDES[side]] = jnp.where(step.finite, new, factor)
        return factors

    def refresh(self, state: Blocks, due: dict[int, Due], lanes: Lanes, step: Step) -> Blocks:
        """Replaces what is derived from the factors of the blocks that are due, by side."""
        live = step.finite if self.refreshes_at_first else step.finite & (step.count > 1)
        for side, _ in self.present:
            due_now = due[side].where(live)
            failures = f"{SIDES[side]}_failures"
            names = (*self.derived(side), failures)

            def renewed(block: Blocks, side: int = side, failures: str = failures) -> Blocks:
                new, trusted = self.refreshed(block, side, step)
                return {**new, failures: block[failures] + ~trusted}

            state = refresh_blocks(state, names, due_now, lanes, renewed)
        return state

    @abc.abstractmethod
    def derived(self, side: int) -> tuple[str, ...]:
        """Names of what a refresh of a side changes."""

    @abc.abstractmethod
    def refreshed(self, block: Blocks, side: int, step: Step) -> tuple[Blocks, Array]:
        """What `derived` names, of one block, and whether the refresh is trusted."""

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

    refreshes_at_first = True

    @property
    def default_exponent(self) -> float:
        """1/4 for two factors, 1/2 for one."""
        return 1 / (2 * len(self.present))

    def initial(self, dtype: Any) -> Blocks:
        """See `Preconditioner`."""
        short = self.root_dtype(dtype)
        roots = {
            f"{SIDES[side]}_root": jnp.zeros((size, size), short) for side, size in self.present
        }
        return {**self.factors(dtype), **roots}

    def derived(self, side: int) -> tuple[str, ...]:
        """The root."""
        return (f"{SIDES[side]}_root",)

    def refreshed(self, block: Blocks, side: int, step: Step) -> tuple[Blocks, Array]:
        """The inverse root of the average; one that cannot be trusted keeps its predecessor."""
        factor, root = SIDES[side], f"{SIDES[side]}_root"
        # Without any average there is nothing to take a root of.
        exists = step.factor_weight > 0
        weight = jnp.where(exists, step.factor_weight, 1.0)
        solver = solvers.root_solver(self.options, self.exponent, step.damping)
        new, trusted = inverse_root(block[factor] / weight, self.exponent, step.damping, solver)
        return {root: jnp.where(trusted & exists, new, block[root])}, trusted

    def direction(self, state: Blocks, average: Array, step: Step) -> Array:
        """S for the averaged gradients M, [K, m, n]."""
        del step
        for side, _ in self.present:
            root = state[f"{SIDES[side]}_root"]
            average = product(root, average) if side == 0 else product(average, root)
        return average
