"""Blocks seen in the eigenbases of their factors, which SOAP and KL-Shampoo share."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from .blocks import Blocks
from .linalg import decompose, frobenius, is_orthonormal, product, scale_to_unit, transposed
from .power_step import power_step
from .preconditioners import SIDES, Preconditioner
from .solvers import basis_solver
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


def eigenbasis(matrix: Array, previous: Array, solver: str = "eigh") -> Basis:
    """The eigenbasis of A, symmetric up to rounding and of any scale.

    Args:
      matrix: A, [d, d].
      previous: [d, d], orthonormal columns; the identity where there is none yet, which is a poor
        start of a power step, so that the first is exact.
      solver: "eigh", "qr" or "cholesky_qr", see `power_step`.

    >>> basis = eigenbasis(jnp.diag(jnp.array([1.0, 4.0])), jnp.eye(2))
    >>> abs(basis.vectors).tolist(), basis.values.tolist()
    ([[0.0, 1.0], [1.0, 0.0]], [4.0, 1.0])
    """
    scaled, bound = scale_to_unit(matrix)
    if solver == "eigh":
        vectors, values, sound = _exact(scaled)
    else:

        def step(scaled: Array, previous: Array) -> tuple[Array, Array, Array]:
            vectors, values = power_step(scaled, previous, solver)
            sound = jnp.isfinite(frobenius(scaled)) & is_orthonormal(vectors)
            return vectors, values, sound

        is_first = (previous == jnp.eye(len(matrix), dtype=matrix.dtype)).all()
        vectors, values, sound = lax.cond(
            is_first, lambda scaled, _: _exact(scaled), step, scaled, previous
        )
    is_zero = (matrix == 0).all()
    exists = sound & ~is_zero
    vectors = jnp.where(exists, vectors, previous)
    return Basis(vectors, values * bound, sound | is_zero, exists)


def _exact(matrix: Array) -> tuple[Array, Array, Array]:
    """Vectors and values, by descending values, and whether they are sound."""
    # Of -A, since eigenvalues come ascending.
    values, vectors, sound = decompose(-matrix)
    return vectors, -values, sound


class Eigenbasis(Preconditioner):
    """Blocks X [m, n] in the eigenbases of their factors: Q_L^T X Q_R and back.

    Never refreshed at a first gradient: in its own singular vectors it has zeros for second
    moments nearly everywhere, and rounding errors would be steps of full length.
    """

    refreshes_at_first = False

    @property
    def default_exponent(self) -> float:
        """1/2."""
        return 0.5

    def initial(self, dtype: Any) -> Blocks:
        """See `Preconditioner`; bases are the identity."""
        short = self.root_dtype(dtype)
        bases = {f"{SIDES[side]}_basis": jnp.eye(size, dtype=short) for side, size in self.present}
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

    def derived(self, side: int) -> tuple[str, ...]:
        """The basis, and moments, which are expressed anew in it."""
        return (f"{SIDES[side]}_basis", "first", *self.basis_dependent(side))

    def refreshed(self, block: Blocks, side: int, step: Step) -> tuple[Blocks, Array]:
        """See `Preconditioner`; an untrusted basis changes nothing."""
        basis = f"{SIDES[side]}_basis"
        new = eigenbasis(block[SIDES[side]], block[basis], basis_solver(self.options))
        stored = new.vectors.astype(self.root_dtype(new.vectors.dtype))
        new = new._replace(vectors=stored.astype(new.vectors.dtype))
        where = new.exists & self.is_ready(block)
        change = product(transposed(new.vectors), block[basis])
        changed = {
            basis: new.vectors,
            "first": _rotate(change, block["first"], side),
            **self.in_new_basis(block, side, change, new, step),
        }
        installed = {name: jnp.where(where, changed[name], block[name]) for name in changed}
        return installed, new.trusted

    def is_ready(self, block: Blocks) -> Array:
        """Whether a block may be refreshed."""
        del block
        return jnp.array(True)

    def basis_dependent(self, side: int) -> tuple[str, ...]:
        """What a change of basis changes beside the first moment."""
        del side
        return ()

    def in_new_basis(
        self, block: Blocks, side: int, change: Array, new: Basis, step: Step
    ) -> Blocks:
        """What `basis_dependent` names, in the new basis, `change` being Q_new^T Q_old."""
        del block, side, change, new, step
        return {}


def _rotate(change: Array, moment: Array, side: int) -> Array:
    """T M, or M T^T from the right."""
    return product(change, moment) if side == 0 else product(moment, transposed(change))


def rotate_second(change: Array, moment: Array, side: int) -> Array:
    """(T o T) V, or from the right: the diagonal of a covariance whose rest is zero, rotated."""
    return _rotate(jnp.square(change), moment, side)


def match_eigenvalues(moment: Array, values: Array, side: int) -> Array:
    """V [m, n] whose rows (columns) sum to the left (right) factor's eigenvalues, but for a scale.

    Row i of the squares of Q_L^T G sums to q_i^T G G^T q_i, in whatever basis the columns are;
    `rotate_second`, which knows no covariances, levels these sums.

    Args:
      moment: V, non-negative.
      values: [m] or [n], non-negative.
      side: 0 for rows, 1 for columns.
    """
    sums = moment.sum(axis=1 - side, keepdims=True)
    matched = values.astype(moment.dtype).reshape(sums.shape) * (sums.sum() / values.sum())
    return moment * jnp.where(sums > 0, matched / jnp.where(sums > 0, sums, 1), 1)
