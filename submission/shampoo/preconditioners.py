"""Preconditioners of a stack: from gradients to directions. Shampoo's, and what SOAP's share.

A refresh has two halves. `compute` reads and returns new tensors, so that it may run beside
training; `install` installs trusted results on the device, without a host sync.
"""

import abc
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..plan.blocking import StackSpec
from . import eigenbasis, roots
from .async_flags import AsyncFlags
from .config import StateConfig, factor_dtypes
from .devices import to_list
from .factor import REFRESHES, KroneckerFactor
from .step import StepInfo, StepOptions
from .symmetric_stack import Blocks, SymmetricStack

# A root is halved once at most, into halves of at least this many rows: every step multiplies with
# it, and so far halving saves memory at no cost in time.
_ROOT_LEAF = 192
SIDES = ("left", "right")


class Preconditioner(abc.ABC):
    """The preconditioner of N blocks [m, n], with one Kronecker factor or two.

    A step calls `update_factors`, refreshes what is due, and calls `direction`.

    Args:
      spec: the blocks, at least one of whose sides has a factor.
      config: which state there is.
      dtype: of all state, unless `config` overrides it.
      device: of all state.

    Attributes:
      factors: of the sides that have one: 0 for left, 1 for right.
      weight: [N, 1, 1], the sum of the weights in the factors (KL-Shampoo: in the eigenvalues), so
        that factor / weight is the average whenever a block began and however its EMA weight
        changed.
      refreshes_at_first: whether a block is refreshed at its first gradient; if not, it is not
        refreshed then, whatever the schedule says.
      default_exponent: the inverse power where the user gives none.
    """

    refreshes_at_first: bool
    default_exponent: float

    def __init__(
        self, spec: StackSpec, config: StateConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.weight = torch.zeros(spec.blocks, 1, 1, dtype=dtype, device=device)
        factor_dtype, self._root_dtype = factor_dtypes(config, dtype)
        self.factors = {
            side: KroneckerFactor(size, self.weight, factor_dtype)
            for side, size in enumerate((spec.height, spec.width))
            if spec.sides[side]
        }
        self._pairs: tuple[Tensor, list[list[tuple[Tensor, Tensor]]]] | None = None

    def exponent(self, options: StepOptions) -> float:
        """The inverse power."""
        return self.default_exponent if options.exponent is None else options.exponent

    def read_flags(self) -> None:
        """Reads on the host what earlier steps have scheduled; the first thing in a step."""
        for factor in self.factors.values():
            factor.read_flags()

    def update_factors(self, grad: Tensor, info: StepInfo, options: StepOptions) -> bool:
        """Averages G [N, m, n] into factors that are not averages of G G^T and G^T G.

        Returns:
          whether these are such; if not, the caller averages those of all stacks together.
        """
        del grad, info, options
        return False

    def pairs(self, grad: Tensor) -> list[list[tuple[Tensor, Tensor]]]:
        """What the factors average of G [N, m, n], see `SymmetricStack.pairs`."""
        if self._pairs is not None and self._pairs[0] is grad:
            return self._pairs[1]
        pairs = [f.matrix.pairs(grad if side == 0 else grad.mT) for side, f in self.factors.items()]
        self._pairs = grad, pairs
        return pairs

    @abc.abstractmethod
    def direction(
        self, average: Tensor, info: StepInfo, options: StepOptions, out: Tensor
    ) -> Tensor:
        """Writes the direction in parameter coordinates, linear in the first moment.

        Args:
          average: the first moment or its look-ahead, [N, m, n], which may be `out`.
          info, options: of the step.
          out: takes the direction.

        Returns:
          `out`.
        """

    @abc.abstractmethod
    def compute(self, side: int, blocks: Blocks, options: StepOptions, retry: bool) -> Any:
        """The result that `install` takes; changes nothing. With `retry`, by the safest solver."""

    @abc.abstractmethod
    def install(
        self, side: int, blocks: Blocks, result: Any, live: Tensor, first: Tensor | None
    ) -> None:
        """Installs a result of `compute` where it can be trusted; rotates moments along.

        Args:
          side: 0 for left, 1 for right.
          blocks: the refreshed blocks.
          result: of `compute`.
          live: [n] booleans; where False, all stays as it was.
          first: the first moment, [N, m, n], or None where there is none.
        """

    def to_parameter_basis(self, first: Tensor | None) -> None:  # noqa: B027 - most have no other
        """Rotates moments out of the eigenbasis; called before blocks are re-cut.

        Args:
          first: the first moment, [N, m, n], or None where there is none.
        """

    def restore(self) -> None:
        """Notes what a loaded state says of pending refreshes."""
        for factor in self.factors.values():
            factor.restore()

    @abc.abstractmethod
    def _derived(self, side: int) -> dict[str, Tensor]:
        """A factor's health and what is derived from it, by the end of the name in the state."""

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that must be saved, by name, one row per block."""
        tensors = {"factor_weight": self.weight}
        for side, factor in self.factors.items():
            saved = {"": factor.matrix.storage, **self._derived(side)}
            tensors.update({f"{SIDES[side]}{end}": tensor for end, tensor in saved.items()})
        return tensors


def by_side(side: int, matrices: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """What stands on the left of a block and what on the right; None for the identity."""
    return (matrices, None) if side == 0 else (None, matrices)


class InverseRoot(Preconditioner):
    """Shampoo: S = L^(-e) M R^(-e) (Gupta et al. 2018, arXiv:1802.09568, algorithm 1).

    A side without a factor is left as it is. Roots are zero before the first that can be trusted,
    which makes the direction zero, and grafting fall back to the diagonal method.

    Attributes:
      roots: of the sides that have a factor.
    """

    refreshes_at_first = True

    def __init__(
        self, spec: StackSpec, config: StateConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(spec, config, dtype, device)
        self.default_exponent = 1 / (2 * sum(spec.sides))
        sizes = {side: factor.dimension for side, factor in self.factors.items()}
        self.roots = {
            side: SymmetricStack(spec.blocks, d, max(_ROOT_LEAF, d // 2), self._root_dtype, device)
            for side, d in sizes.items()
        }

    def direction(
        self, average: Tensor, info: StepInfo, options: StepOptions, out: Tensor
    ) -> Tensor:
        """S for the averaged gradients M, [N, m, n]."""
        del info, options
        if len(self.roots) == 2:
            return self.roots[1].times_from_right(self.roots[0].times(average), out)
        source = average.clone() if average is out else average
        ((side, root),) = self.roots.items()
        return root.times(source, out) if side == 0 else root.times_from_right(source, out)

    def compute(
        self, side: int, blocks: Blocks, options: StepOptions, retry: bool
    ) -> roots.InverseRoots:
        """Inverse roots of the averages."""
        exponent = self.exponent(options)
        result = roots.inverse_root(
            self.factors[side].dense(blocks),
            exponent,
            options.damping,
            "eigh" if retry else options.root_solver,
        )
        result.roots.mul_(self.weight[blocks].pow(exponent))
        return result

    def install(
        self, side: int, blocks: Blocks, result: Any, live: Tensor, first: Tensor | None
    ) -> None:
        """See `Preconditioner.install`; there are no moments to rotate."""
        del first
        trusted = result.trusted & roots.is_finite(result.roots)
        self.roots[side].assign(blocks, result.roots, trusted & live)
        self.factors[side].record(blocks, trusted, live, result.residual, result.condition)

    def _derived(self, side: int) -> dict[str, Tensor]:
        return {"_root": self.roots[side].storage, "_health": self.factors[side].health}


class Basis(NamedTuple):
    """The eigenbases of the factors of one side.

    Attributes:
      vectors: Q, [N, d, d], columns by descending eigenvalue; the identity before a refresh.
      warm: for each block, whether the host knows that it has been refreshed.
      warmed: reports that to the host.
    """

    vectors: Tensor
    warm: list[bool]
    warmed: AsyncFlags

    def rotate(self, matrices: Tensor, side: int, back: bool = False) -> Tensor:
        """Q^T X for side 0 and X Q for side 1; Q X and X Q^T to go `back`."""
        vectors = self.vectors.mT if back == (side == 1) else self.vectors
        rotated = matrices.to(vectors.dtype)
        rotated = vectors @ rotated if side == 0 else rotated @ vectors
        return rotated.to(matrices.dtype)


class Eigenbasis(Preconditioner):
    """Blocks [m, n] seen in the eigenbases of their factors: X -> Q_L^T X Q_R and back.

    First moments are in the bases. A step calls `to_basis` and `update_moments` before `direction`.

    Never refreshed at a block's first gradient: in its own singular vectors it has zeros for
    second moments nearly everywhere, and rounding errors would be steps of full length.

    Attributes:
      bases: of the sides that have a factor.
    """

    refreshes_at_first = False
    default_exponent = 0.5

    def __init__(
        self, spec: StackSpec, config: StateConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(spec, config, dtype, device)
        self.bases: dict[int, Basis] = {}
        for side, factor in self.factors.items():
            identity = torch.eye(factor.dimension, dtype=self._root_dtype, device=device)
            vectors = identity.repeat(spec.blocks, 1, 1)
            self.bases[side] = Basis(vectors, [False] * spec.blocks, AsyncFlags())

    def read_flags(self) -> None:
        """See `Preconditioner.read_flags`; also which blocks have been refreshed."""
        super().read_flags()
        for basis in self.bases.values():
            for number in basis.warmed.read():
                basis.warm[number] = True

    def to_basis(self, grad: Tensor) -> Tensor:
        """Q_L^T G Q_R."""
        for side, basis in self.bases.items():
            grad = basis.rotate(grad, side)
        return grad

    def from_basis(self, direction: Tensor) -> Tensor:
        """Q_L X Q_R^T."""
        for side, basis in self.bases.items():
            direction = basis.rotate(direction, side, back=True)
        return direction

    def update_moments(self, grad: Tensor, info: StepInfo, options: StepOptions) -> None:
        """Averages second moments of the gradient in the basis."""

    def compute(self, side: int, blocks: Blocks, options: StepOptions, retry: bool) -> Any:
        """Eigenbases, a block's first by eigh, without a previous one; and condition numbers."""
        factor, basis = self.factors[side], self.bases[side]
        # The host does not know which blocks an index tensor names.
        cold = not all(basis.warm[blocks] if isinstance(blocks, slice) else basis.warm)
        bases = eigenbasis.eigenbasis(
            factor.dense(blocks),
            basis.vectors[blocks].to(factor.dtype),
            "eigh" if retry or cold else options.basis_solver,
        )
        return bases, eigenbasis.condition(bases.values, options.damping)

    def install(
        self, side: int, blocks: Blocks, result: Any, live: Tensor, first: Tensor | None
    ) -> None:
        """See `Preconditioner.install`."""
        self._install_bases(side, blocks, result, live, first)

    def _install_bases(
        self,
        side: int,
        blocks: Blocks,
        decomposition: Any,
        live: Tensor,
        first: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Installs bases; returns Q_new^T Q_old, [n, d, d], and where they are installed, [n].

        Factors that are zero have no basis yet.
        """
        bases, condition = decomposition
        factor, basis = self.factors[side], self.bases[side]
        live = live & (bases.values[:, 0] != 0)
        where = bases.trusted & live
        old = basis.vectors[blocks]
        vectors = bases.vectors.to(old.dtype)
        change = vectors.to(factor.dtype).mT @ old.to(factor.dtype)
        self._rotate_moments(side, blocks, change, where, first)
        basis.vectors[blocks] = torch.where(where[:, None, None], vectors, old)
        factor.record(blocks, bases.trusted, live, bases.residual, condition)
        if not all(basis.warm):
            # Only the device knows which blocks were refreshed: a step may have been skipped.
            basis.warmed.post(factor.health[:, REFRESHES] > 0)
        return change, where

    def _rotate_moments(
        self, side: int, blocks: Blocks, change: Tensor, where: Tensor, first: Tensor | None
    ) -> None:
        """Expresses moments in another basis where `where` [n], by Q_new^T Q_old, [n, d, d]."""
        if first is not None:
            rotated = eigenbasis.rotate_first(first[blocks], *by_side(side, change))
            first[blocks] = torch.where(where[:, None, None], rotated, first[blocks])

    def to_parameter_basis(self, first: Tensor | None) -> None:
        """See `Preconditioner.to_parameter_basis`; the bases become the identity."""
        every = torch.ones(len(self.weight), dtype=torch.bool, device=self.weight.device)
        for side, factor in self.factors.items():
            vectors = self.bases[side].vectors
            self._rotate_moments(side, slice(None), vectors.to(factor.dtype), every, first)
            identity = torch.eye(factor.dimension, dtype=vectors.dtype, device=vectors.device)
            vectors.copy_(identity.expand_as(vectors))

    def restore(self) -> None:
        """See `Preconditioner.restore`; also notes which bases were loaded."""
        super().restore()
        for side, factor in self.factors.items():
            self.bases[side].warm[:] = to_list(factor.health[:, REFRESHES] > 0)

    def _derived(self, side: int) -> dict[str, Tensor]:
        return {"_basis": self.bases[side].vectors, "_health": self.factors[side].health}
