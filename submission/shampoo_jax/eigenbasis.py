"""Blocks seen in the eigenbases of their factors, which SOAP and KL-Shampoo share."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from .linalg import decompose, product, scale_to_unit, transposed
from .preconditioners import SIDES, Preconditioner
from .refresh import Blocks, Due, Lanes, refresh_blocks
from .step import Step


class Basis(NamedTuple):
    """The eigenvectors of a matrix A [d, d].

    Attributes:
      vectors: Q, columns by descending eigenvalue; the previous ones where not trusted.
      values: eigenvalues, [d], descending.
      trusted: whether they are sound; a matrix of zeros has no basis and is.
      exists: whether A is not zero and its basis is trusted.
    """

    vectors: Array
    values: Array
    trusted: Array
    exists: Array


def eigenbasis(matrix: Array, previous: Array) -> Basis:
    """By an eigendecomposition of A, symmetric up to rounding and of any scale.

    >>> basis = eigenbasis(jnp.diag(jnp.array([1.0, 4.0])), jnp.eye(2))
    >>> abs(basis.vectors).tolist(), basis.values.tolist()
    ([[0.0, 1.0], [1.0, 0.0]], [4.0, 1.0])
    """
    scaled, bound = scale_to_unit(matrix)
    # Of -A, since eigenvalues come ascending.
    values, vectors, sound = decompose(-scaled)
    is_zero = (matrix == 0).all()
    exists = sound & ~is_zero
    vectors = jnp.where(exists, vectors, previous)
    return Basis(vectors, -values * bound, sound | is_zero, exists)


class Eigenbasis(Preconditioner):
    """Blocks X [m, n] in the eigenbases of their factors: Q_L^T X Q_R and back.

    Never refreshed at a first gradient: in its own singular vectors it has zeros for second
    moments nearly everywhere, and rounding errors would be steps of full length.
    """

    @property
    def default_exponent(self) -> float:
        """1/2."""
        return 0.5

    def initial(self, dtype: Any) -> Blocks:
        """See `Preconditioner`; bases are the identity."""
        bases = {f"{SIDES[side]}_basis": jnp.eye(size, dtype=dtype) for side, size in self.present}
        return {**self.factors(dtype), **bases}

    def to_basis(self, state: Blocks, matrices: Array) -> Array:
        """Q_L^T X Q_R."""
        for side, _ in self.present:
            basis = state[f"{SIDES[side]}_basis"]
            matrices = (
                product(transposed(basis), matrices) if side == 0 else product(matrices, basis)
            )
        return matrices

    def from_basis(self, state: Blocks, matrices: Array) -> Array:
        """Q_L X Q_R^T."""
        for side, _ in self.present:
            basis = state[f"{SIDES[side]}_basis"]
            matrices = (
                product(basis, matrices) if side == 0 else product(matrices, transposed(basis))
            )
        return matrices

    def refresh(self, state: Blocks, due: dict[int, Due], lanes: Lanes, step: Step) -> Blocks:
        """New bases, in which moments are expressed anew; untrusted ones change nothing."""
        live = step.finite & (step.count > 1)
        for side, _ in self.present:
            basis, failures = (SIDES[side] + end for end in ("_basis", "_failures"))
            names = (basis, failures, "first", *self.moved(side))

            def refreshed(
                block: Blocks, side: int = side, basis: str = basis, failures: str = failures
            ) -> Blocks:
                new = eigenbasis(block[SIDES[side]], block[basis])
                where = new.exists & self.is_ready(block)
                change = product(transposed(new.vectors), block[basis])
                moved = {
                    basis: new.vectors,
                    "first": _turned(change, block["first"], side),
                    **self.turned(block, side, change, new, step),
                }
                kept = {name: jnp.where(where, moved[name], block[name]) for name in moved}
                return {**kept, failures: block[failures] + ~new.trusted}

            stop = jnp.where(live, due[side].stop, due[side].start)
            own = Due(due[side].start, stop)
            state = refresh_blocks(state, names, own, lanes, refreshed)
        return state

    def is_ready(self, block: Blocks) -> Array:
        """Whether a block may be refreshed."""
        del block
        return jnp.array(True)

    def moved(self, side: int) -> tuple[str, ...]:
        """What a change of basis changes beside the first moment."""
        del side
        return ()

    def turned(self, block: Blocks, side: int, change: Array, new: Basis, step: Step) -> Blocks:
        """What `moved` names, in the new basis, `change` being Q_new^T Q_old."""
        del block, side, change, new, step
        return {}


def _turned(change: Array, moment: Array, side: int) -> Array:
    """T M, or M T^T from the right."""
    return product(change, moment) if side == 0 else product(moment, transposed(change))


def turned_squares(change: Array, moment: Array, side: int) -> Array:
    """(T o T) V, or from the right: the diagonal of a covariance whose rest is zero, turned."""
    return _turned(jnp.square(change), moment, side)
