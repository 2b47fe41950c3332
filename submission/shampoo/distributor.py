"""Gradients into stacks and updates out of them: on one device, and among replicas (DDP).

All that is sent has sizes that follow from shapes alone: a rank without gradients or without blocks
joins every collective as the others do.
"""

import abc
import itertools
from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from ..plan.blocking import Part, StackSpec
from . import foreach
from .config import DistributedConfig
from .devices import has_addresses
from .placement import Placement
from .stack import Stack, as_matrix, matrix_view, memory_of, part_views
from .step import Number

# By its newer name where torch has it.
_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)

# The stacks of every owner, in the order of `Placement.owner`.
Specs = Sequence[Sequence[StackSpec]]


class Weights:
    """This rank's shards of the parameters that a step moves, and views of them made once.

    Args:
      matrix_shapes: of each parameter, by its index.

    Attributes:
      shards: by parameter index; contiguous.
      matrices: the same as rows of the parameter's matrix or, of a single row, as columns.
      copied: (original, copy) of shards that are not contiguous: only the copy is moved.
    """

    def __init__(self, matrix_shapes: Sequence[tuple[int, int]]) -> None:
        self._shapes = matrix_shapes
        self.shards: dict[int, Tensor] = {}
        self.matrices: dict[int, Tensor] = {}
        self.copied: dict[int, tuple[Tensor, Tensor]] = {}
        self._aliases: dict[int, Tensor] = {}
        self._regions: dict[int, tuple[object, list[Tensor]]] = {}

    def is_current(self, index: int, shard: Tensor) -> bool:
        """Whether there are views of the same memory, shape and strides; dispatches no operator."""
        alias = self._aliases.get(index)
        if alias is None:
            return False
        address = shard.data_ptr()
        return (
            address != 0
            and alias.data_ptr() == address
            and alias.dtype is shard.dtype
            and alias.shape == shard.shape
            and alias.stride() == shard.stride()
        )

    def drop(self, index: int) -> None:
        """Frees what is known of a parameter."""
        self._regions.clear()
        for table in (self.shards, self.matrices, self.copied, self._aliases):
            table.pop(index, None)

    def set(self, index: int, shard: Tensor, is_temporary: bool = False) -> None:
        """Makes views of a shard, for steps to come or for this step only.

        Args:
          index: the parameter's.
          shard: of any strides.
          is_temporary: whether the shard is of this step only.
        """
        self.drop(index)
        if not is_temporary:
            shard = shard.detach()  # a view of the parameter keeps it from being swapped
        self.matrices[index] = as_matrix(shard, self._shapes[index])
        if shard.is_contiguous():
            self.shards[index] = shard
            if not is_temporary and has_addresses(shard.device):
                self._aliases[index] = self.shards[index]
        else:  # a reshaped tensor is a copy
            self.shards[index] = self.matrices[index]
            self.copied[index] = shard, self.matrices[index]

    @property
    def has_temporary(self) -> bool:
        """Whether some shards are of this step only."""
        return len(self.shards) > len(self._aliases)

    def drop_temporary(self) -> None:
        """Frees what the last step alone needed: copies, and shards that may not be compared."""
        for index in [index for index in self.shards if index not in self._aliases]:
            self.drop(index)

    def regions(self, stack: Stack) -> list[Tensor]:
        """Views [rows, m, columns, n] of the active parts of a stack."""
        key, views = self._regions.get(id(stack), (None, []))
        if key is not stack.active:
            views = [matrix_view(part.grid, self.matrices[part.index]) for part in stack.active]
            self._regions[id(stack)] = stack.active, views
        return views


class Distributor(abc.ABC):
    """Serves the stacks of one group whose parameters have one placement, see `placement`.

    A step calls `scatter_gradients`, `send_update` for each stack in order, and `apply_updates`.

    Args:
      weights: of all parameters, moved in place.

    Attributes:
      weights: as given.
      bytes_per_step: what this rank sends to others in a step, known from shapes.
    """

    bytes_per_step = 0

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def scatter_gradients(
        self, stacks: Sequence[Stack], grads: Mapping[int, Tensor], l2: float
    ) -> None:
        """Fills the buffers of the stacks, here from unsharded gradients.

        Blocks that take no step get zeros.

        Args:
          stacks: those that no fused kernel steps.
          grads: this rank's shards, in the parameters' shapes; those without one are absent.
          l2: strength of the decay that is added to the gradients.
        """
        for stack in stacks:
            if not all(stack.is_active):
                stack.buffer.zero_()
        views = [view for stack in stacks for view in stack.active_views]
        if not views:
            return
        # As by `foreach.by_layout`, but without comparing strides at every step.
        alike: foreach.Pairs = [], []
        others: foreach.Pairs = [], []
        places = iter(views)
        for stack in stacks:
            for part, target in stack.destinations(grads):
                grad, view = grads[part.index], next(places)
                if target is None:
                    target, grad, pairs = view, _region(part, grad), others
                else:
                    pairs = alike if grad.is_contiguous() else others
                pairs[0].append(target)
                pairs[1].append(grad)
        for pairs in (alike, others):
            if pairs[0]:
                torch._foreach_copy_(*pairs)
        if l2 != 0:
            regions = [region for stack in stacks for region in self.weights.regions(stack)]
            add_weights(views, regions, l2)

    def send_update(  # noqa: B027 - most send nothing
        self, stack: Stack, decay: Number | None
    ) -> None:
        """Starts to send the update in a stack's buffer; `decay` as for `apply_updates`."""

    @abc.abstractmethod
    def apply_updates(self, stacks: Sequence[Stack], decay: Number | None) -> None:
        """Shrinks the weights by the fraction `decay`, and subtracts the updates.

        Args:
          stacks: as for `scatter_gradients`.
          decay: a number, or a scalar on the device; None for no decay.
        """


class Local(Distributor):
    """All on one device."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        # The weights that the last step moved, by stack, and these beside their updates.
        self._moved: list[list[Tensor]] = []
        self._pairs: list[foreach.Pairs] = []

    def apply_updates(self, stacks: Sequence[Stack], decay: Number | None) -> None:
        """See `Distributor.apply_updates`."""
        moved = [self.weights.regions(stack) for stack in stacks]
        if not foreach.are_same(moved, self._moved):
            sources = [view for stack in stacks for view in stack.active_views]
            self._moved = moved
            self._pairs = list(foreach.by_layout(list(itertools.chain(*moved)), sources))
        apply_(self._pairs, decay)
        if self.weights.has_temporary:  # which would live on until the next step
            self._moved, self._pairs = [], []


def apply_(pairs: Iterable[foreach.Pairs], decay: Number | None) -> None:
    """Shrinks weights by the fraction `decay`, and subtracts updates, in lists of both."""
    keep = 1.0 if decay is None else 1 - decay
    for weights, updates in pairs:
        if decay is not None:
            if weights[0].dtype == updates[0].dtype:
                torch._foreach_mul_(weights, keep)
            else:
                # Rounding 1 - decay to a short mantissa would give no decay, or far too much.
                _add_decay(updates, weights, decay)
        torch._foreach_sub_(weights, updates)


def add_weights(targets: list[Tensor], weights: Sequence[Tensor], l2: float) -> None:
    """Adds l2 times the weights to the gradients in `targets`."""
    exact = [weight.to(targets[0].dtype) for weight in weights]
    torch._foreach_add_(targets, exact, alpha=l2)


def _add_decay(updates: list[Tensor], weights: Sequence[Tensor], decay: Number) -> None:
    """Adds to updates the fraction of the weights that they lose."""
    if updates:
        exact = [weight.to(updates[0].dtype) for weight in weights]
        torch._foreach_add_(updates, torch._foreach_mul(exact, decay))


def _region(part: Part, grad: Tensor) -> Tensor:
    """The part of a gradient as a view [rows, m, columns, n], or of a copy if it is strided."""
    if not grad.is_contiguous():
        return matrix_view(part.grid, as_matrix(grad, part.matrix_shape))
    grid, width = part.grid, part.matrix_shape[1]
    return grad.as_strided(
        (grid.rows, grid.height, grid.columns, grid.width),
        (grid.height * width, width, grid.width, 1),
        grad.storage_offset() + grid.row * width + grid.column,
    )


class Replicated(Distributor):
    """Every rank holds all gradients and weights; the updates of the owners are gathered.

    One flat all-gather in a few buckets, each under way as soon as it is computed. All replicas
    apply the update as received, the owner too, so that they stay equal bit for bit.

    Args:
      weights: as for `Distributor`.
      stacks: this rank's; their buffers become parts of what is sent.
      specs: of all owners.
      placement: of the parameters.
      config: the dtypes and kind of messages.
      dtype: of gradients and updates in the stacks.
      weight_dtype: of the weights that a step moves.
      device: of the weights.
    """

    def __init__(
        self,
        weights: Weights,
        stacks: Sequence[Stack],
        specs: Specs,
        placement: Placement,
        config: DistributedConfig,
        dtype: torch.dtype,
        weight_dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__(weights)
        assert placement.replica_group is not None
        self._group = placement.replica_group
        has_weights = placement.kind == "replicated"  # else what the optimizer has put together
        self._sends_weights = config.communicate == "parameters" and has_weights
        sent = weight_dtype if self._sends_weights else sent_dtype(config, dtype)
        share = max(sum(spec.elements for spec in owned) for owned in specs)
        self._flat = torch.zeros(share, dtype=dtype, device=device)
        start = 0
        for memory in dict.fromkeys(stack.memory for stack in stacks):
            memory.put("buffer", self._flat.narrow(0, start, memory.elements))
            start += memory.elements
        self._outgoing = self._flat
        if self._sends_weights or sent != dtype:
            self._outgoing = torch.zeros(share, dtype=sent, device=device)
        own = _views(self._outgoing, specs[placement.owner])
        self._own = dict(zip(stacks, own, strict=True))
        self._incoming = torch.zeros(len(specs), share, dtype=sent, device=device)
        self._parts = [part for owned in specs for spec in owned for part in spec.parts]
        self._views = [
            view
            for row, owned in zip(self._incoming, specs, strict=True)
            for views in _views(row, owned)
            for view in views
        ]
        edges = [share * number // config.buckets for number in range(config.buckets + 1)]
        self._buckets = [pair for pair in itertools.pairwise(edges) if pair[0] < pair[1]]
        self._started: list[tuple[dist.Work, Tensor]] = []
        self.bytes_per_step = share * sent.itemsize * (len(specs) - 1)

    def send_update(self, stack: Stack, decay: Number | None) -> None:
        """See `Distributor.send_update`."""
        weights = self.weights
        if decay is not None:
            _add_decay(stack.active_views, weights.regions(stack), decay)
        if self._outgoing is not self._flat:
            out: Sequence[Tensor] = stack.views
            if self._sends_weights:
                regions = [matrix_view(p.grid, weights.matrices[p.index]) for p in stack.spec.parts]
                exact = [region.to(stack.dtype) for region in regions]
                out = torch._foreach_sub(exact, stack.views)
            foreach.copy_(self._own[stack], out)
        self._send(int(stack.buffer.storage_offset()) + stack.buffer.numel())

    def apply_updates(self, stacks: Sequence[Stack], decay: Number | None) -> None:
        """See `Distributor.apply_updates`."""
        del stacks, decay
        self._send(len(self._flat))
        for (start, stop), (work, into) in zip(self._buckets, self._started, strict=True):
            work.wait()
            if len(self._buckets) > 1:
                self._incoming[:, start:stop].copy_(into)
        self._started = []
        matrices = self.weights.matrices
        targets = [matrix_view(part.grid, matrices[part.index]) for part in self._parts]
        if self._sends_weights:
            foreach.copy_(targets, self._views)
        else:
            apply_(foreach.by_layout(targets, self._views), None)

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


def sent_dtype(config: DistributedConfig, dtype: torch.dtype) -> torch.dtype:
    """The dtype of messages; float64 state is float64 throughout."""
    return dtype if dtype == torch.float64 else config.communication_dtype


def _views(flat: Tensor, specs: Sequence[StackSpec]) -> list[list[Tensor]]:
    """Views [rows, m, columns, n] of the parts of stacks one after the other, by stack."""
    stacks = memory_of(specs, flat.dtype, flat.device).split(flat)
    return [part_views(spec, stack) for spec, stack in zip(specs, stacks, strict=True)]
