"""One rank of any world, on this machine: meta tensors and a fake process group."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from common.cli import UserError
from scripts.benchmark.counting import WorkCount, storage_bytes
from submission.shampoo import averaging
from submission.shampoo.config import DistributedConfig, ShampooConfig, StateConfig
from submission.shampoo.group_stacks import GroupStacks
from submission.shampoo.group_state import GroupState
from submission.shampoo.placement import Placements, local, rows_of
from submission.shampoo.stack import Stack, needed_moments

MOST_RANKS = 4096
# No power of four, so that no refresh of all is due.
_ORDINARY_STEP = 3


@dataclasses.dataclass(frozen=True)
class World:
    """Number of ranks, and the layout of parameters on them.

    Attributes:
      size: number of ranks.
      shards: into how many shards a copy of the parameters is cut; 1 under DDP.
      is_sharded: whether parameters are DTensors, as FSDP2 makes them.
    """

    size: int
    shards: int
    is_sharded: bool

    @classmethod
    def of(cls, size: int, mesh: str) -> "World":
        """The world that `--world` and `--mesh` name.

        Raises:
          UserError: if they name none.

        >>> World.of(512, "hsdp:8")
        World(size=512, shards=8, is_sharded=True)
        """
        if not 1 <= size <= MOST_RANKS:
            raise UserError(f"--world: {size} given; allowed: 1 to {MOST_RANKS}")
        if mesh == "ddp":
            return cls(size, 1, False)
        if mesh == "fsdp":
            return cls(size, size, True)
        kind, _, shards = mesh.partition(":")
        if kind != "hsdp" or not shards.isdecimal():
            raise UserError(f"--mesh: {mesh!r} given; allowed: ddp, fsdp, hsdp:SHARDS")
        if not 1 <= int(shards) <= size or size % int(shards):
            raise UserError(f"--mesh: {shards} shards given; allowed: divisors of --world={size}")
        return cls(size, int(shards), True)

    @contextmanager
    def rank(self, number: int) -> Iterator[None]:
        """Makes this process rank `number` of a fake process group."""
        dist.init_process_group("fake", store=FakeStore(), rank=number, world_size=self.size)
        try:
            yield
        finally:
            dist.destroy_process_group()

    def parameters(
        self, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, number: int
    ) -> list[Tensor]:
        """Rank `number`'s parameters on the meta device, with gradients."""
        parameters = [torch.empty(shape, dtype=dtype, device="meta") for shape in shapes]
        gradients = [torch.empty_like(full) for full in parameters]
        if self.is_sharded:
            replicas = self.size // self.shards
            mesh = init_device_mesh(
                "cpu", (replicas, self.shards), mesh_dim_names=("replicas", "shards")
            )
            shard = number % self.shards
            parameters = [_shard_of(full, mesh, shard) for full in parameters]
            gradients = [_shard_of(full, mesh, shard) for full in gradients]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # Not a `Parameter`: it would ask DTensor's cache, which has the last rank's mesh.
            parameter.requires_grad_().grad = gradient
        return parameters


def _shard_of(full: Tensor, mesh: DeviceMesh, shard: int) -> Tensor:
    rows = slice(*rows_of(shard, mesh.size(1), len(full)))
    return DTensor.from_local(
        full[rows].clone(),
        mesh,
        [Replicate(), Shard(0)],
        run_check=False,
        shape=full.shape,
        stride=full.stride(),
    )


@dataclasses.dataclass(frozen=True)
class Rank:
    """Memory of one rank, and work of a step that refreshes nothing.

    Attributes:
      layout: its stacks, and those of all owners.
      memory: bytes by what they are for: "weights", "gradients", "moments", "factors", "roots",
        "others" (counters, health), "averages" (of weights), "buffers" (of communication and
        updates), "temporaries" (the most that live at one time within the step).
      count: the step's kernels and what it sends.
      bytes_sent: the same as the distributor itself declares it.
    """

    layout: GroupStacks
    memory: dict[str, int]
    count: WorkCount
    bytes_sent: int


def build_rank(
    world: World,
    shapes: Sequence[tuple[int, ...]],
    dtype: torch.dtype,
    config: ShampooConfig,
    distributed: DistributedConfig,
    number: int,
) -> Rank:
    """Builds rank `number`'s part of the optimizer and takes a step with it, on the meta device.

    Raises:
      UserError: if `distributed.group_size` does not fit the world.
    """
    fixed = {field.name: getattr(config, field.name) for field in dataclasses.fields(StateConfig)}
    with world.rank(number), torch.no_grad():
        parameters = world.parameters(shapes, dtype, number)
        try:
            layout = GroupStacks(
                parameters,
                StateConfig(**fixed),
                frozenset(index for index, shape in enumerate(shapes) if math.prod(shape)),
                Placements(distributed),
                config.refresh_interval,
            )
        except ValueError as error:
            raise UserError(f"--group_size: {error}") from error
        for group in layout.placed_stacks:
            for stack in group.stacks:
                for part in stack.spec.parts:
                    group.counters.mark_seen(part)
                allocate(stack, config)
        count = _step(layout, parameters, config)
        size = sum(local(parameter).nbytes for parameter in parameters)
        memory = {"weights": size, "gradients": size, **_state(layout)}
        memory["averages"] = sum(
            averaging.state_bytes(config.averaging, local(parameter)) for parameter in parameters
        )
        # Stacks may share buffers with the distributor.
        memory["buffers"] = sum(
            storage_bytes(
                [list(vars(group.distributor).values()), [s.buffer for s in group.stacks]]
            )
            for group in layout.placed_stacks
        )
        memory["temporaries"] = count.peak
        sent = sum(group.distributor.bytes_per_step for group in layout.placed_stacks)
        return Rank(layout, memory, count, sent)


def _step(layout: GroupStacks, parameters: list[Tensor], config: ShampooConfig) -> WorkCount:
    group = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    # Staggered refreshes are due at every step; together, none is due at this one.
    group |= {"params": parameters, "refresh": "together", "peak_lr": config.lr}
    group |= {"refresh_step": _ORDINARY_STEP - 1, "refresh_interval": 2 * _ORDINARY_STEP}
    state = GroupState()
    state.stacks, state.averager = layout, averaging.averager(config.averaging)
    if state.averager is not None:  # whose first step copies the weights
        state.averager.begin([local(parameter) for parameter in parameters])
    with WorkCount() as count:
        state.begin(group, range(len(parameters)))
        state.apply(state.take_gradients()[0])
    return count


def allocate(stack: Stack, config: ShampooConfig) -> None:
    """Allocates the buffers and moments that a stack's first step would."""
    _ = stack.buffer
    stack.make_room(needed_moments(config.betas, config.momentum))


_KINDS = {"exp_avg": "moments", "exp_avg_sq": "moments", "momentum_buffer": "moments"}
_KINDS |= {side: "factors" for side in ("left", "right")}
_KINDS |= {f"{side}_{end}": "roots" for side in ("left", "right") for end in ("root", "basis")}


def _state(layout: GroupStacks) -> dict[str, int]:
    sizes = dict.fromkeys(("moments", "factors", "roots", "others"), 0)
    for group in layout.placed_stacks:
        for stack in group.stacks:
            for name, tensor in stack.state_tensors().items():
                sizes[_KINDS.get(name, "others")] += tensor.nbytes
    return sizes
