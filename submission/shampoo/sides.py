"""One side of a stack: its Kronecker factors and what is derived from them at a refresh.

A refresh has two halves. `compute` reads and returns new tensors, so that it may run beside
training; `install` takes them over, where they can be trusted, without a word to the host.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from . import eigenbasis, roots
from .flags import AsyncFlags
from .numerics import sign_probes, tiny
from .symmetric import Blocks, SymmetricStack

# Halving pays on a CPU while a half is at least this long: less to multiply in an average of outer
# products, and for roots, which are only multiplied with, as long as one halving costs nothing.
_FACTOR_LEAF = 128
_ROOT_LEAF = 192
# Columns of `Side.health`.
RESIDUAL, CONDITION, REFRESHES, FAILURES, _MOVED, _FAILED = range(6)
_MEASURES, _COUNTS = slice(RESIDUAL, CONDITION + 1), slice(REFRESHES, FAILURES + 1)


class Side(abc.ABC):
    """The factors A = L or R of N blocks, [N, d, d].

    Attributes:
      dimension: d.
      factor: the weighted sum of outer products.
      dtype: of what is computed from the factors.
      weight: that of the `Preconditioner`.
      health: [N, 6] float32: the last refresh's residual and condition number, how many refreshes
        there were and how many could not be trusted, and whether one is owed to a block because
        it has moved or because its last one failed.
    """

    def __init__(self, dimension: int, weight: Tensor, factor_dtype: torch.dtype) -> None:
        blocks, device = len(weight), weight.device
        self.dimension = dimension
        self.dtype = weight.dtype
        self.weight = weight
        self.factor = SymmetricStack(blocks, dimension, _FACTOR_LEAF, factor_dtype, device)
        self.health = torch.zeros(blocks, 6, dtype=torch.float32, device=device)
        self._moved, self._failed = AsyncFlags(), AsyncFlags()

    @property
    def device(self) -> torch.device:
        """Of all tensors."""
        return self.weight.device

    def retries(self, live: Tensor) -> Tensor | None:
        """Indices of blocks whose last root an iteration failed at; None if there are none.

        Only what the host could not see at the time, see `AsyncFlags`.

        Args:
          live: [N] booleans; where False a block takes no step, and is named again at the next.
        """
        return self._owed(self._failed, _FAILED, live)

    def moved(self, live: Tensor) -> Tensor | None:
        """Indices of blocks that the last `check` found to have moved; as `retries`."""
        return self._owed(self._moved, _MOVED, live)

    def _owed(self, flags: AsyncFlags, column: int, live: Tensor) -> Tensor | None:
        found = flags.read()
        if not found:
            return None
        self.health[:, column].mul_(~live)
        flags.post(self.health[:, column] > 0)
        return torch.tensor(found, device="cpu").to(self.device, non_blocking=True)

    def _owe(
        self, flags: AsyncFlags, column: int, blocks: Blocks, owed: Tensor, live: Tensor
    ) -> None:
        old = self.health[blocks, column]
        self.health[blocks, column] = torch.where(live, owed.float(), old)
        flags.post(self.health[:, column] > 0)

    def restore(self) -> None:
        """Takes up the refreshes that a loaded `health` says are owed."""
        self._moved.post(self.health[:, _MOVED] > 0)
        self._failed.post(self.health[:, _FAILED] > 0)

    def check(self, blocks: slice, options: Mapping[str, Any], live: Tensor) -> None:
        """Notes which blocks have moved too far since their refresh, where `live` [n] says so."""
        moved = self.drift(blocks, options) > options["refresh_tolerance"]
        self._owe(self._moved, _MOVED, blocks, moved, live)

    @abc.abstractmethod
    def drift(self, blocks: slice, options: Mapping[str, Any]) -> Tensor:
        """How far the factors at `blocks` have moved from what was derived from them, [n]."""

    @abc.abstractmethod
    def compute(self, blocks: Blocks, options: Mapping[str, Any], retry: bool) -> Any:
        """What `install` takes; changes nothing. With `retry`, by the safest solver."""

    @abc.abstractmethod
    def install(
        self, blocks: Blocks, result: Any, live: Tensor, carried: Sequence["Carried"]
    ) -> None:
        """Takes over a result of `compute` where it can be trusted and `live` [n] says so."""

    def fail(self, blocks: Blocks, live: Tensor) -> None:
        """Counts that `compute` had no result, where `live` [n] says so."""
        measures = self.health[blocks, RESIDUAL], self.health[blocks, CONDITION]
        self._record(blocks, torch.zeros_like(live), live, *measures)

    @abc.abstractmethod
    def state_tensors(self) -> dict[str, Tensor]:
        """What must be saved, with one row per block, by the end of its name."""

    def _record(self, blocks: Blocks, trusted: Tensor, live: Tensor, *measured: Tensor) -> None:
        old = self.health[blocks]
        fresh = torch.stack([each.float() for each in measured], dim=1)
        counts = old[:, _COUNTS] + torch.stack([trusted & live, ~trusted & live], dim=1)
        measures = torch.where(live[:, None], fresh, old[:, _MEASURES])
        self.health[blocks] = torch.cat([measures, counts, old[:, _MOVED:]], dim=1)
        # Elsewhere the host has seen the failure, and tried again, at once.
        if self.device.type == "cuda":
            self._owe(self._failed, _FAILED, blocks, ~trusted, live)


class Carried:
    """A stack of moments in the basis of a preconditioner, to be carried into the next basis.

    Attributes:
      moment: [N, m, n].
      squared: whether it averages squares.
      side: 0 if the side at hand is the left one.
    """

    def __init__(self, moment: Tensor, squared: bool, side: int) -> None:
        self.moment, self.squared, self.side = moment, squared, side

    def carry(self, blocks: Blocks, change: Tensor, where: Tensor) -> None:
        """Expresses the moments at `blocks` anew, change being Q_new^T Q_old, [n, d, d]."""
        old = self.moment[blocks]
        carry = eigenbasis.carry_second if self.squared else eigenbasis.carry_first
        left, right = (change, None) if self.side == 0 else (None, change)
        self.moment[blocks] = torch.where(where[:, None, None], carry(old, left, right), old)


class RootSide(Side):
    """Factors and their inverse roots A^(-e), zero before the first that could be trusted."""

    def __init__(
        self, dimension: int, weight: Tensor, factor_dtype: torch.dtype, root_dtype: torch.dtype
    ) -> None:
        super().__init__(dimension, weight, factor_dtype)
        leaf = max(_ROOT_LEAF, dimension // 2)
        self.root = SymmetricStack(len(weight), dimension, leaf, root_dtype, self.device)

    def drift(self, blocks: slice, options: Mapping[str, Any]) -> Tensor:
        """|X^p A z - z| / |z| over fixed probes z, up to a factor, with X the root and p = 1/e.

        A is damped as it was for the root: in its null space X^p A would be 0.
        """
        factors = self.factor.dense(blocks, self.dtype)
        probes = sign_probes(factors)
        # As rows, since a few columns would make a slow product of it.
        moved = probes @ factors
        moved = moved + options["damping"] * _largest(factors, moved) * probes
        root = self.root.dense(blocks, self.dtype)
        for _ in range(round(1 / options["exponent"])):
            moved = moved @ root
            moved = moved / torch.linalg.matrix_norm(moved, keepdim=True).clamp_min(tiny(moved))
        scale = (moved * probes).sum((-2, -1), keepdim=True)
        scale = scale / moved.square().sum((-2, -1), keepdim=True).clamp_min(tiny(moved))
        return torch.linalg.matrix_norm(moved * scale - probes) / torch.linalg.matrix_norm(probes)

    def compute(
        self, blocks: Blocks, options: Mapping[str, Any], retry: bool
    ) -> roots.InverseRoots:
        """Inverse roots of the averages, with exponent, damping and root_solver of `options`."""
        exponent = options["exponent"]
        found = roots.inverse_root(
            self.factor.dense(blocks, self.dtype),
            exponent,
            options["damping"],
            "eigh" if retry else options["root_solver"],
        )
        found.roots.mul_(self.weight[blocks].pow(exponent))
        return found

    def install(
        self, blocks: Blocks, result: Any, live: Tensor, carried: Sequence[Carried]
    ) -> None:
        """See `Side.install`."""
        del carried
        # A sum is finite only if all its terms are, and takes a fraction of the time.
        trusted = result.trusted & result.roots.sum((-2, -1)).isfinite()
        self.root.assign(blocks, result.roots, trusted & live)
        self._record(blocks, trusted, live, result.residual, result.condition)

    def state_tensors(self) -> dict[str, Tensor]:
        """See `Side.state_tensors`."""
        return {"": self.factor.storage, "_root": self.root.storage, "_health": self.health}


class BasisSide(Side):
    """Factors and their eigenbases Q, the identity before the first refresh.

    Attributes:
      basis: Q, [N, d, d], columns by descending eigenvalue.
      eigenvalues: [N, d] for KL-Shampoo, kept up to date every step; None for SOAP.
    """

    def __init__(
        self,
        dimension: int,
        weight: Tensor,
        factor_dtype: torch.dtype,
        root_dtype: torch.dtype,
        with_eigenvalues: bool,
    ) -> None:
        super().__init__(dimension, weight, factor_dtype)
        identity = torch.eye(dimension, dtype=root_dtype, device=self.device)
        self.basis = identity.repeat(len(weight), 1, 1)
        self.eigenvalues: Tensor | None = None
        if with_eigenvalues:
            self.eigenvalues = weight.new_zeros(len(weight), dimension)
        self._warm = [False] * len(weight)
        self._warmed = AsyncFlags()

    def into(self, matrices: Tensor, side: int) -> Tensor:
        """Q^T X for side 0, X Q for side 1."""
        turned = matrices.to(self.basis.dtype)
        turned = self.basis.mT @ turned if side == 0 else turned @ self.basis
        return turned.to(matrices.dtype)

    def out(self, matrices: Tensor, side: int) -> Tensor:
        """Q X for side 0, X Q^T for side 1."""
        turned = matrices.to(self.basis.dtype)
        turned = self.basis @ turned if side == 0 else turned @ self.basis.mT
        return turned.to(matrices.dtype)

    def drift(self, blocks: slice, options: Mapping[str, Any]) -> Tensor:
        """The off-diagonal part of Q^T A Q, see `eigenbasis.off_diagonal`."""
        del options
        basis = self.basis[blocks].to(self.dtype)
        return eigenbasis.off_diagonal(self.factor.dense(blocks, self.dtype), basis)

    def compute(self, blocks: Blocks, options: Mapping[str, Any], retry: bool) -> eigenbasis.Bases:
        """Eigenbases by the basis_solver of `options`; a block's first by eigh, from nothing."""
        for number in self._warmed.read():
            self._warm[number] = True
        # Which blocks a tensor names, the host does not know.
        cold = not all(self._warm[blocks] if isinstance(blocks, slice) else self._warm)
        return eigenbasis.eigenbasis(
            self.factor.dense(blocks, self.dtype),
            self.basis[blocks].to(self.dtype),
            "eigh" if retry or cold else options["basis_solver"],
        )

    def install(
        self, blocks: Blocks, result: Any, live: Tensor, carried: Sequence[Carried]
    ) -> None:
        """See `Side.install`; also carries the moments over and takes the eigenvalues.

        Factors that have averaged nothing yet have none to give.
        """
        live = live & (self.weight[blocks].flatten() > 0)
        where = result.trusted & live
        old = self.basis[blocks]
        vectors = result.vectors.to(old.dtype)
        change = vectors.to(self.dtype).mT @ old.to(self.dtype)
        for each in carried:
            each.carry(blocks, change, where)
        self.basis[blocks] = torch.where(where[:, None, None], vectors, old)
        if self.eigenvalues is not None:
            values = result.values / self.weight[blocks].squeeze(-1).clamp_min(tiny(self.weight))
            kept = self.eigenvalues[blocks]
            self.eigenvalues[blocks] = torch.where(where[:, None], values.clamp_min(0), kept)
        condition = result.values[:, 0] / result.values[:, -1].clamp_min(tiny(result.values))
        self._record(blocks, result.trusted, live, result.residual, condition)
        if not all(self._warm):
            # Only the device knows which blocks took theirs: a step may have been skipped.
            self._warmed.post(self.health[:, REFRESHES] > 0)

    def turn_back(self, carried: Sequence[Carried]) -> None:
        """Goes back to the identity as basis; `carried` as in `install`."""
        every = slice(None)
        sure = torch.ones(len(self.weight), dtype=torch.bool, device=self.device)
        for each in carried:
            each.carry(every, self.basis.to(self.dtype), sure)
        identity = torch.eye(self.dimension, dtype=self.basis.dtype, device=self.device)
        self.basis.copy_(identity.expand_as(self.basis))

    def restore(self) -> None:
        """See `Side.restore`; also notes which bases were loaded."""
        super().restore()
        self._warm = (self.health[:, REFRESHES] > 0).tolist()

    def state_tensors(self) -> dict[str, Tensor]:
        """See `Side.state_tensors`."""
        tensors = {
            "": self.factor.storage,
            "_basis": self.basis,
            "_health": self.health,
        }
        if self.eigenvalues is not None:
            tensors["_eigenvalues"] = self.eigenvalues
        return tensors


def _largest(matrices: Tensor, rows: Tensor) -> Tensor:
    """The largest eigenvalue of each matrix [n, d, d] to a few per cent, [n, 1, 1].

    By power iteration from rows [n, k, d], which scales its damping alone.
    """
    for _ in range(8):
        rows = rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min(tiny(rows))
        rows = rows @ matrices
    return torch.linalg.vector_norm(rows, dim=-1, keepdim=True).amax(-2, keepdim=True)
