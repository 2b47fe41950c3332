"""Stacks of symmetric matrices, stored without their upper halves.

A symmetric matrix is halved again and again along its diagonal, [[A, C^T], [C, B]], and C^T is not
stored. Unlike a packed triangle this is a handful of dense rectangles, so products run on them as
they are, and an average of outer products is spared the work that symmetry makes redundant.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .devices import seeded
from .step import Number

Blocks = slice | Tensor

# Halving pays on a CPU while a half is at least this long.
LEAF = 128


def pieces(dimension: int, leaf: int, start: int = 0) -> list[tuple[slice, slice]]:
    """Row and column ranges that hold a symmetric matrix: the diagonal, then what is below it.

    Args:
      dimension: d of the matrix.
      leaf: a part is halved while both halves have at least this many rows.
      start: the first row and column.

    >>> pieces(5, leaf=2)
    [(slice(0, 3, None), slice(0, 3, None)), (slice(3, 5, None), slice(3, 5, None)), \
(slice(3, 5, None), slice(0, 3, None))]
    """
    stop = start + dimension
    if dimension < 2 * leaf:
        return [(slice(start, stop), slice(start, stop))]
    middle = start + (dimension + 1) // 2
    halves = [*pieces(middle - start, leaf, start), *pieces(stop - middle, leaf, middle)]
    diagonal = [piece for piece in halves if piece[0] == piece[1]]
    below = [piece for piece in halves if piece[0] != piece[1]]
    return [*diagonal, *below, (slice(middle, stop), slice(start, middle))]


class SymmetricStack:
    """N symmetric matrices [d, d], zero at first.

    Args:
      blocks: N.
      dimension: d.
      leaf: see `pieces`.
      dtype, device: of the storage.

    Attributes:
      storage: [N, K] with d*d/2 < K <= d*d: the pieces of a matrix after one another.
    """

    def __init__(
        self, blocks: int, dimension: int, leaf: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.dimension = dimension
        self._ranges = pieces(dimension, leaf)
        self._shapes = [(r.stop - r.start, c.stop - c.start) for r, c in self._ranges]
        self._sizes = [height * width for height, width in self._shapes]
        self.storage = torch.zeros(blocks, sum(self._sizes), dtype=dtype, device=device)
        self._stored = self._views(self.storage)

    @property
    def is_whole(self) -> bool:
        """Whether all of a matrix is stored, [N, d, d] in one piece."""
        return len(self._ranges) == 1

    def _views(self, storage: Tensor) -> list[tuple[slice, slice, Tensor]]:
        parts = storage.split(self._sizes, dim=1)
        return [
            (rows, columns, part.view(len(storage), *shape))
            for (rows, columns), shape, part in zip(self._ranges, self._shapes, parts, strict=True)
        ]

    def dense(self, blocks: Blocks, dtype: torch.dtype) -> Tensor:
        """The matrices at `blocks` in full, [n, d, d]."""
        storage = self.storage[blocks].to(dtype)
        if len(self._ranges) == 1:
            full = storage.view(-1, self.dimension, self.dimension)
        else:
            full = storage.new_empty(len(storage), self.dimension, self.dimension)
            for rows, columns, part in self._views(storage):
                full[:, rows, columns] = part
                if rows != columns:
                    full[:, columns, rows] = part.mT
        if self.storage.dtype == dtype:
            return full
        return (full + full.mT).mul_(0.5)  # the two halves were rounded each by its own noise

    def assign(self, blocks: Blocks, full: Tensor, where: Tensor) -> None:
        """Takes over the matrices `full` [n, d, d] at `blocks`, where `where` [n] says so."""
        parts = [full[:, rows, columns].flatten(1) for rows, columns in self._ranges]
        packed = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        old = self.storage[blocks]
        self.storage[blocks] = torch.where(where[:, None], packed.to(old.dtype), old)

    def pairs(self, vectors: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each piece the rows of X [N, d, k] whose products with others, transposed, it has."""
        if self.is_whole:
            return [(vectors, vectors.mT)]
        return [(vectors[:, rows], vectors[:, columns].mT) for rows, columns in self._ranges]

    def average(
        self,
        pairs: Sequence[tuple[Tensor, Tensor]],
        decay: Number | None,
        weight: float,
        seed: int,
    ) -> None:
        """A <- decay A + weight X X^T, in place.

        Args:
          pairs: of X, see `pairs`.
          decay: a number, a scalar, or [N, 1, 1]; None if it has been applied.
          weight: the same for all matrices.
          seed: of the stochastic rounding to a shorter storage.
        """
        short = self.storage.dtype != pairs[0][0].dtype
        exact, views = self.storage, self._stored
        if short:
            exact = self.storage.to(pairs[0][0].dtype)
            views = self._views(exact)
        if isinstance(decay, Tensor):
            exact.mul_(decay.flatten(1) if decay.dim() else decay)
        beta = decay if isinstance(decay, float) else 1.0
        for (_, _, part), (left, right) in zip(views, pairs, strict=True):
            part.baddbmm_(left, right, beta=beta, alpha=weight)
        if short:
            self.storage.copy_(_rounded_to_bfloat16(exact, seed))

    def times(self, matrices: Tensor, out: Tensor | None = None) -> Tensor:
        """A X for X [N, d, k], computed in the storage's dtype.

        Args:
          matrices: X.
          out: takes the result, and shares no memory with X; None for a new tensor.
        """
        right, product = matrices.to(self.storage.dtype), self._room(matrices, out)
        if self.is_whole:
            torch.bmm(self._stored[0][2], right, out=product)
            return _into(product, matrices.dtype, out)
        inputs, outputs = self._cut(right, 1), self._cut(product, 1)
        for rows, columns, part in self._stored:
            if rows == columns:
                # The diagonal comes first, so that it writes all rows for the others to add to.
                outputs[rows.start, rows.stop].baddbmm_(part, inputs[rows.start, rows.stop], beta=0)
            else:
                above, below = (columns.start, columns.stop), (rows.start, rows.stop)
                outputs[below].baddbmm_(part, inputs[above])
                outputs[above].baddbmm_(part.mT, inputs[below])
        return _into(product, matrices.dtype, out)

    def times_from_right(self, matrices: Tensor, out: Tensor | None = None) -> Tensor:
        """X A for X [N, k, d], computed in the storage's dtype; arguments as for `times`."""
        left, product = matrices.to(self.storage.dtype), self._room(matrices, out)
        if self.is_whole:
            torch.bmm(left, self._stored[0][2], out=product)
            return _into(product, matrices.dtype, out)
        inputs, outputs = self._cut(left, 2), self._cut(product, 2)
        for rows, columns, part in self._stored:
            if rows == columns:
                outputs[rows.start, rows.stop].baddbmm_(inputs[rows.start, rows.stop], part, beta=0)
            else:
                above, below = (columns.start, columns.stop), (rows.start, rows.stop)
                outputs[above].baddbmm_(inputs[below], part)
                outputs[below].baddbmm_(inputs[above], part.mT)
        return _into(product, matrices.dtype, out)

    def _cut(self, tensor: Tensor, dimension: int) -> dict[tuple[int, int], Tensor]:
        """Views of the rows or columns that the pieces have, by where these begin and end."""
        ends = {(cut.start, cut.stop) for pair in self._ranges for cut in pair}
        return {(a, b): tensor.narrow(dimension, a, b - a) for a, b in ends}

    def _room(self, matrices: Tensor, out: Tensor | None) -> Tensor:
        """What a product is written to: `out`, if it has the storage's dtype."""
        if out is not None and out.dtype == self.storage.dtype:
            return out
        return torch.empty(matrices.shape, dtype=self.storage.dtype, device=matrices.device)


def _into(product: Tensor, dtype: torch.dtype, out: Tensor | None) -> Tensor:
    """A product in a dtype, in `out` unless that is None."""
    if out is None or out is product:
        return product.to(dtype)
    return out.copy_(product)


def _rounded_to_bfloat16(exact: Tensor, seed: int) -> Tensor:
    """Finite float32 values, rounded up or down with probabilities that keep their expectation.

    Rounding to nearest would leave an average where it is once its increments are below half a
    unit, which with EMA weights near 1 they nearly always are.
    """
    device, generator = exact.device, seeded(seed, exact.device)
    noise = torch.randint(
        0, 1 << 16, exact.shape, dtype=torch.int32, device=device, generator=generator
    )
    bits = (exact.view(torch.int32) + noise).bitwise_and_(-(1 << 16))
    return bits.view(torch.float32).to(torch.bfloat16)
