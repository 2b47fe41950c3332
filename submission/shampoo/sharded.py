"""Gradients and updates of parameters that are sharded by rows: FSDP2 and HSDP.

All that is sent has sizes that follow from shapes alone: a rank with an empty shard or without
blocks joins every collective as the others do.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from ..plan.blocking import StackSpec
from . import foreach
from .config import DistributedConfig
from .distributor import Distributor, Specs, Weights, add_weights, apply_, sent_dtype
from .placement import Placement
from .stack import Stack, as_matrix
from .step import Number

# The rows [begin, end) of a parameter's matrix that each shard has, or the columns where the matrix
# is a single row, by parameter index and shard.
RowRanges = Mapping[int, Sequence[tuple[int, int]]]


@dataclasses.dataclass(frozen=True)
class Piece:
    """The part of a row of blocks that is in one shard.

    Attributes:
      stack: index of the owner's stack.
      blocks: first of the row's blocks in that stack, and their number.
      inside, across: rows and columns [begin, end) of the blocks.
      index: the parameter's.
      matrix_shape: the parameter's.
      row, column: where the piece begins in the shard, as a matrix.
    """

    stack: int
    blocks: tuple[int, int]
    inside: tuple[int, int]
    across: tuple[int, int]
    index: int
    matrix_shape: tuple[int, int]
    row: int
    column: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """[rows, blocks, columns of a block]."""
        return self.inside[1] - self.inside[0], self.blocks[1], self.across[1] - self.across[0]

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def of_stack(self, buffer: Tensor) -> Tensor:
        """The piece as a view of the owner's stack [N, m, n]."""
        blocks = buffer.narrow(0, *self.blocks)
        return blocks[:, slice(*self.inside), slice(*self.across)].transpose(0, 1)

    def of_shard(self, matrix: Tensor) -> Tensor:
        """The piece as a view of the shard's matrix."""
        rows, blocks, width = self.shape
        part = matrix[self.row : self.row + rows, self.column : self.column + blocks * width]
        return part.unflatten(1, (blocks, width))


def pieces_of(specs: Sequence[StackSpec], rows: RowRanges, shard: int) -> Iterator[Piece]:
    """The pieces of an owner's blocks that are in a shard, in the order of its stacks."""
    for number, spec in enumerate(specs):
        for part in spec.parts:
            begin, end = rows[part.index][shard]
            grid = part.grid
            if part.matrix_shape[0] == 1:
                first = max(begin, grid.column)
                count = min(end, grid.column + grid.columns * grid.width) - first
                if count > 0:
                    start, column = first - grid.column, first - begin
                    # Elements are blocks of their own, but those of a long vector are one block.
                    if grid.width == 1:
                        area = (part.offset + start, count), (0, 1), (0, 1)
                    else:
                        area = (part.offset, 1), (0, 1), (start, start + count)
                    yield Piece(number, *area, part.index, part.matrix_shape, 0, column)
                continue
            for row in range(grid.rows):
                top = grid.row + row * grid.height
                first, last = max(begin, top), min(end, top + grid.height)
                if first < last:
                    blocks = part.offset + row * grid.columns, grid.columns
                    area = blocks, (first - top, last - top), (0, grid.width)
                    place = first - begin, grid.column
                    yield Piece(number, *area, part.index, part.matrix_shape, *place)


class Sharded(Distributor):
    """Every rank holds rows of all parameters (FSDP2), perhaps one replica of several (HSDP).

    One all-to-all brings gradients to the owners within the replica, a second one brings their
    updates back; with replicas, a third one brings those of the other replicas' owners. No rank
    ever holds more than its shard and the blocks that it owns.

    Args:
      weights, stacks, specs, placement, config, dtype, device: as for `Replicated`.
      rows: of each shard of each parameter.
    """

    def __init__(
        self,
        weights: Weights,
        stacks: Sequence[Stack],
        specs: Specs,
        placement: Placement,
        config: DistributedConfig,
        dtype: torch.dtype,
        device: torch.device,
        rows: RowRanges,
    ) -> None:
        super().__init__(weights)
        self._placement = placement
        self._present: frozenset[int] = frozenset()
        sent = sent_dtype(config, dtype)
        shards, shard = placement.shards, placement.shard
        # Pieces of this rank's shard, by replica and by the owner in it.
        of_owner = [
            [list(pieces_of(specs[r * shards + s], rows, shard)) for s in range(shards)]
            for r in range(placement.replicas)
        ]
        owned = [list(pieces_of(specs[placement.owner], rows, s)) for s in range(shards)]
        self._shard_sizes = list(map(_total, of_owner[placement.replica]))
        self._owned_sizes = list(map(_total, owned))
        self._owned = torch.zeros(sum(self._owned_sizes), dtype=sent, device=device)
        self._owned_views = _flat_views(self._owned, [piece for group in owned for piece in group])
        self._stack_views = [
            piece.of_stack(stacks[piece.stack].buffer) for group in owned for piece in group
        ]
        self._pieces = [[piece for group in replica for piece in group] for replica in of_owner]
        self._replica_sizes = list(map(_total, self._pieces))
        self._flat = torch.zeros(sum(self._replica_sizes), dtype=sent, device=device)
        self._parts = self._flat.split(self._replica_sizes)
        self._shard_views = [
            _flat_views(part, group) for part, group in zip(self._parts, self._pieces, strict=True)
        ]
        away = sum(self._shard_sizes) - self._shard_sizes[shard]
        away += sum(self._owned_sizes) - self._owned_sizes[shard]
        away += sum(self._shard_sizes) * (placement.replicas - 1)
        self.bytes_per_step = away * sent.itemsize

    def scatter_gradients(
        self, stacks: Sequence[Stack], grads: Mapping[int, Tensor], l2: float
    ) -> None:
        """See `Distributor.scatter_gradients`."""
        del stacks
        self._present = frozenset(grads)
        replica = self._placement.replica
        pieces, views = self._pieces[replica], self._shard_views[replica]
        present = [pair for pair in zip(pieces, views, strict=True) if pair[0].index in grads]
        if len(present) < len(pieces):
            self._parts[replica].zero_()
        targets = [view for _, view in present]
        if targets:
            shapes = {piece.index: piece.matrix_shape for piece, _ in present}
            matrices = {index: as_matrix(grads[index], shape) for index, shape in shapes.items()}
            sources = [piece.of_shard(matrices[piece.index]) for piece, _ in present]
            foreach.copy_(targets, sources)
        if targets and l2 != 0:
            sources = [piece.of_shard(self.weights.matrices[piece.index]) for piece, _ in present]
            add_weights(targets, sources, l2)
        dist.all_to_all_single(
            self._owned,
            self._parts[replica],
            self._owned_sizes,
            self._shard_sizes,
            self._placement.shard_group,
        )
        if self._stack_views:
            foreach.copy_(self._stack_views, self._owned_views)

    def apply_updates(self, stacks: Sequence[Stack], decay: Number | None) -> None:
        """See `Distributor.apply_updates`."""
        del stacks
        replica = self._placement.replica
        if self._stack_views:
            foreach.copy_(self._owned_views, self._stack_views)
        dist.all_to_all_single(
            self._parts[replica],
            self._owned,
            self._shard_sizes,
            self._owned_sizes,
            self._placement.shard_group,
        )
        copies = len(self._parts)
        if copies > 1:  # shares of unlike size, which an all-gather would have to fill up
            shard = self._parts[replica]
            dist.all_to_all_single(
                self._flat,
                shard.repeat(copies),
                self._replica_sizes,
                [len(shard)] * copies,
                self._placement.replica_group,
            )
        pairs = [
            (piece.of_shard(self.weights.matrices[piece.index]), view)
            for pieces, views in zip(self._pieces, self._shard_views, strict=True)
            for piece, view in zip(pieces, views, strict=True)
            if piece.index in self._present
        ]
        targets, updates = [target for target, _ in pairs], [update for _, update in pairs]
        apply_(foreach.by_layout(targets, updates), decay)


def _total(pieces: Sequence[Piece]) -> int:
    return sum(piece.elements for piece in pieces)


def _flat_views(flat: Tensor, pieces: Sequence[Piece]) -> list[Tensor]:
    """The pieces [rows, blocks, width] one after the other in a flat tensor."""
    views, start = [], 0
    for piece in pieces:
        views.append(flat.narrow(0, start, piece.elements).view(piece.shape))
        start += piece.elements
    return views
