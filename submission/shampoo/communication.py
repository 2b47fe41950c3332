"""Gradients to the owners of blocks, updates back to the holders of weights.

All that is sent has sizes that follow from shapes alone: a rank without gradients, without blocks
or with an empty shard joins every collective as the others do.
"""

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from ..plan.blocking import StackSpec
from .config import DistributedConfig
from .exchange import (
    Exchange,
    Matrices,
    add_decay,
    add_weights,
    move,
    regions,
)
from .numerics import state_dtype
from .placement import Placement
from .roster import Roster
from .stacks import Stack, matrix_view, stack_view

# By its newer name where torch has it.
_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)

# The stacks of every owner, in the order of `Placement.owner`.
Layouts = Sequence[Sequence[StackSpec]]

# Of dimension 0, or where the matrix is one row of its elements, the part that each shard holds:
# [begin, end) by parameter index and shard.
Held = Mapping[int, Sequence[tuple[int, int]]]


class Replicated(Exchange):
    """Every rank holds all gradients and weights; what owners compute is gathered.

    One flat all-gather in a few buckets, each under way as soon as it is computed. All replicas
    move by what came in, the owner too, so that they stay equal bit for bit.

    Args:
      stacks: this rank's; their buffers become parts of what is sent.
      layouts: of all owners.
      placement: of the parameters.
      config: what is sent.
      dtype: of gradients and updates in the stacks.
      parameter_dtype: of the weights.
      device: theirs.
    """

    def __init__(
        self,
        stacks: Sequence[Stack],
        layouts: Layouts,
        placement: Placement,
        config: DistributedConfig,
        dtype: torch.dtype,
        parameter_dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        assert placement.replica_group is not None
        self._group = placement.replica_group
        self._sends_weights = config.communicate == "parameters"
        sent = parameter_dtype if self._sends_weights else _sent_dtype(config, dtype)
        share = max(sum(layout.elements for layout in each) for each in layouts)
        self._flat = torch.zeros(share, dtype=dtype, device=device)
        for stack, buffer in zip(stacks, _split(self._flat, layouts[placement.owner]), strict=True):
            stack.buffer = buffer
        self._outgoing = self._flat
        if self._sends_weights or sent != dtype:
            self._outgoing = torch.zeros(share, dtype=sent, device=device)
        self._own = _views(self._outgoing, layouts[placement.owner])
        self._incoming = torch.zeros(len(layouts), share, dtype=sent, device=device)
        self._members = [member for layout in layouts for stack in layout for member in stack.parts]
        self._views = [
            view
            for row, each in zip(self._incoming, layouts, strict=True)
            for stack in _views(row, each)
            for view in stack
        ]
        edges = [share * number // config.buckets for number in range(config.buckets + 1)]
        self._buckets = [pair for pair in itertools.pairwise(edges) if pair[0] < pair[1]]
        self._started: list[tuple[dist.Work, Tensor]] = []
        self.bytes_per_step = share * sent.itemsize * (len(layouts) - 1)

    def ready(self, number: int, roster: Roster, weights: Matrices, decay: Tensor | None) -> None:
        """See `Exchange.ready`."""
        stack = roster.stack
        if decay is not None:
            add_decay(roster.views, regions([roster], weights), decay)
        if self._outgoing is not self._flat:
            out: Sequence[Tensor] = stack.views
            if self._sends_weights:
                members = stack.layout.parts
                held = [matrix_view(m.grid, weights[m.index]).to(stack.dtype) for m in members]
                out = torch._foreach_sub(held, stack.views)
            torch._foreach_copy_(self._own[number], list(out))
        self._send(int(stack.buffer.storage_offset()) + stack.buffer.numel())

    def give(
        self,
        rosters: Sequence[Roster],
        present: Collection[int],
        weights: Matrices,
        decay: Tensor | None,
    ) -> None:
        """See `Exchange.give`."""
        del rosters, present, decay
        self._send(len(self._flat))
        for (start, stop), (work, into) in zip(self._buckets, self._started, strict=True):
            work.wait()
            if len(self._buckets) > 1:
                self._incoming[:, start:stop].copy_(into)
        self._started = []
        targets = [matrix_view(member.grid, weights[member.index]) for member in self._members]
        if self._sends_weights:
            torch._foreach_copy_(targets, self._views)
        else:
            move(targets, self._views, None)

    def _send(self, done: int) -> None:
        """Starts the buckets that lie within the first `done` elements."""
        for start, stop in self._buckets[len(self._started) :]:
            if stop > done:
                break
            into = self._incoming
            if len(self._buckets) > 1:
                into = into.new_empty(len(into), stop - start)
            piece = self._outgoing[start:stop]
            work = _all_gather(into.view(-1), piece, self._group, async_op=True)
            assert work is not None
            self._started.append((work, into))


@dataclasses.dataclass(frozen=True)
class Piece:
    """What a shard holds of a row of blocks.

    Attributes:
      stack: number of the owner's stack.
      blocks: first of the row's blocks in that stack, and how many they are.
      inside: rows [begin, end) of the blocks.
      index: the parameter's.
      row, column: where it begins in what the shard holds of the parameter, as a matrix.
      shape: [rows, blocks, width of a block].
    """

    stack: int
    blocks: tuple[int, int]
    inside: tuple[int, int]
    index: int
    row: int
    column: int
    shape: tuple[int, int, int]

    @property
    def elements(self) -> int:
        """How many elements there are."""
        rows, blocks, width = self.shape
        return rows * blocks * width

    def of_stack(self, buffer: Tensor) -> Tensor:
        """Its view of the owner's stack [N, m, n]."""
        rows = buffer.narrow(0, *self.blocks)[:, slice(*self.inside)]
        return rows.transpose(0, 1)

    def of_shard(self, matrix: Tensor) -> Tensor:
        """Its view of the shard's matrix."""
        rows, blocks, width = self.shape
        part = matrix[self.row : self.row + rows, self.column : self.column + blocks * width]
        return part.unflatten(1, (blocks, width))


def pieces(layouts: Sequence[StackSpec], held: Held, shard: int) -> Iterator[Piece]:
    """What a shard holds of an owner's blocks, in the order of its stacks."""
    for number, layout in enumerate(layouts):
        for member in layout.parts:
            begin, end = held[member.index][shard]
            grid = member.grid
            if member.matrix_shape[0] == 1:
                first, last = max(begin, grid.column), min(end, grid.column + grid.columns)
                if first < last:
                    blocks = member.offset + first - grid.column, last - first
                    shape = 1, last - first, 1
                    yield Piece(number, blocks, (0, 1), member.index, 0, first - begin, shape)
                continue
            for row in range(grid.rows):
                top = grid.row + row * grid.height
                first, last = max(begin, top), min(end, top + grid.height)
                if first < last:
                    yield Piece(
                        number,
                        (member.offset + row * grid.columns, grid.columns),
                        (first - top, last - top),
                        member.index,
                        first - begin,
                        grid.column,
                        (last - first, grid.columns, grid.width),
                    )


class Sharded(Exchange):
    """Every rank holds rows of all parameters (FSDP2), perhaps one replica of several (HSDP).

    One all-to-all brings gradients to the owners within the replica, a second one brings their
    updates back; with replicas, a third one brings those of the other replicas' owners. No rank
    ever holds more than its shard and what it owns.

    Args:
      stacks, layouts, placement, config, dtype, device: as for `Replicated`.
      held: which part of each parameter each shard holds.
    """

    def __init__(
        self,
        stacks: Sequence[Stack],
        layouts: Layouts,
        placement: Placement,
        config: DistributedConfig,
        dtype: torch.dtype,
        device: torch.device,
        held: Held,
    ) -> None:
        self._placement = placement
        sent = _sent_dtype(config, dtype)
        shards, mine = placement.shards, placement.shard
        # Pieces of this rank's shard, by replica and by the owner in it.
        theirs = [
            [list(pieces(layouts[r * shards + s], held, mine)) for s in range(shards)]
            for r in range(placement.replicas)
        ]
        own = [list(pieces(layouts[placement.owner], held, shard)) for shard in range(shards)]
        self._shard_sizes = [_total(each) for each in theirs[placement.replica]]
        self._owned_sizes = [_total(each) for each in own]
        self._owned = torch.zeros(sum(self._owned_sizes), dtype=sent, device=device)
        self._owned_views = _flat_views(self._owned, [piece for each in own for piece in each])
        self._stack_views = [
            piece.of_stack(stacks[piece.stack].buffer) for each in own for piece in each
        ]
        self._pieces = [[piece for each in replica for piece in each] for replica in theirs]
        self._replica_sizes = [_total(each) for each in self._pieces]
        self._held = torch.zeros(sum(self._replica_sizes), dtype=sent, device=device)
        self._parts = self._held.split(self._replica_sizes)
        self._held_views = [
            _flat_views(part, each) for part, each in zip(self._parts, self._pieces, strict=True)
        ]
        away = sum(self._shard_sizes) - self._shard_sizes[mine]
        away += sum(self._owned_sizes) - self._owned_sizes[mine]
        away += sum(self._shard_sizes) * (placement.replicas - 1)
        self.bytes_per_step = away * sent.itemsize

    def take(
        self, rosters: Sequence[Roster], grads: Matrices, weights: Matrices, l2: float
    ) -> None:
        """See `Exchange.take`."""
        del rosters
        replica = self._placement.replica
        mine, views = self._pieces[replica], self._held_views[replica]
        here = [pair for pair in zip(mine, views, strict=True) if pair[0].index in grads]
        if len(here) < len(mine):
            self._parts[replica].zero_()
        targets = [view for _, view in here]
        if targets:
            sources = [piece.of_shard(grads[piece.index]) for piece, _ in here]
            torch._foreach_copy_(targets, sources)
        if targets and l2 != 0:
            add_weights(targets, [piece.of_shard(weights[piece.index]) for piece, _ in here], l2)
        dist.all_to_all_single(
            self._owned,
            self._parts[replica],
            self._owned_sizes,
            self._shard_sizes,
            self._placement.shard_group,
        )
        if self._stack_views:
            torch._foreach_copy_(self._stack_views, self._owned_views)

    def give(
        self,
        rosters: Sequence[Roster],
        present: Collection[int],
        weights: Matrices,
        decay: Tensor | None,
    ) -> None:
        """See `Exchange.give`."""
        del rosters
        replica = self._placement.replica
        if self._stack_views:
            torch._foreach_copy_(self._owned_views, self._stack_views)
        dist.all_to_all_single(
            self._parts[replica],
            self._owned,
            self._shard_sizes,
            self._owned_sizes,
            self._placement.shard_group,
        )
        copies = len(self._parts)
        if copies > 1:  # shares of unlike size, which an all-gather would have to fill up
            own = self._parts[replica]
            dist.all_to_all_single(
                self._held,
                own.repeat(copies),
                self._replica_sizes,
                [len(own)] * copies,
                self._placement.replica_group,
            )
        moved = [
            (piece.of_shard(weights[piece.index]), view)
            for each, views in zip(self._pieces, self._held_views, strict=True)
            for piece, view in zip(each, views, strict=True)
            if piece.index in present
        ]
        move([target for target, _ in moved], [source for _, source in moved], decay)


def exchange(
    stacks: Sequence[Stack],
    layouts: Layouts,
    placement: Placement,
    config: DistributedConfig,
    held: Held,
    parameter_dtype: torch.dtype,
    device: torch.device,
) -> Exchange:
    """The exchange for parameters that lie as `placement` says; arguments as for the classes."""
    dtype = state_dtype(parameter_dtype)
    if placement.kind == "sharded":
        return Sharded(stacks, layouts, placement, config, dtype, device, held)
    return Replicated(stacks, layouts, placement, config, dtype, parameter_dtype, device)


def _sent_dtype(config: DistributedConfig, dtype: torch.dtype) -> torch.dtype:
    """What goes over the wire; float64 state is float64 throughout."""
    return dtype if dtype == torch.float64 else config.communication_dtype


def _total(pieces: Sequence[Piece]) -> int:
    return sum(piece.elements for piece in pieces)


def _split(flat: Tensor, layouts: Sequence[StackSpec]) -> list[Tensor]:
    """The stacks [N, m, n] one after the other in a flat tensor."""
    found, start = [], 0
    for layout in layouts:
        part = flat.narrow(0, start, layout.elements)
        found.append(part.view(layout.blocks, layout.height, layout.width))
        start += layout.elements
    return found


def _views(flat: Tensor, layouts: Sequence[StackSpec]) -> list[list[Tensor]]:
    """The members' views [rows, m, columns, n] of such a tensor, by stack."""
    return [
        [
            stack_view(member.grid, stack.narrow(0, member.offset, member.grid.blocks))
            for member in layout.parts
        ]
        for layout, stack in zip(layouts, _split(flat, layouts), strict=True)
    ]


def _flat_views(flat: Tensor, pieces: Sequence[Piece]) -> list[Tensor]:
    """The pieces [rows, blocks, width] one after the other in a flat tensor."""
    found, start = [], 0
    for piece in pieces:
        found.append(flat.narrow(0, start, piece.elements).view(piece.shape))
        start += piece.elements
    return found
