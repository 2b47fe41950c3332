"""How parameters lie on the ranks: replicated, sharded by rows, both, or otherwise."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from ..plan.options import check, is_integer
from .config import DistributedConfig

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Kind = Literal["local", "replicated", "sharded", "gathered"]


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where copies and shards of some parameters are, and which ranks share their blocks.

    There are `replicas * shards` owners; rank s of the shard group of replica r is the owner
    r * shards + s.

    Attributes:
      kind: "local" on one device; "replicated" under DDP; "sharded" by rows of dimension 0 under
        FSDP2, with or without replicas (HSDP); "gathered" for all other DTensors, which are put
        together for the optimizer.
      replica_group: ranks that hold the same and share the work; None for one rank.
      shard_group: ranks that hold the shards of one copy; None for one rank.
    """

    kind: Kind
    replica_group: "ProcessGroup | None" = None
    shard_group: "ProcessGroup | None" = None

    @property
    def replicas(self) -> int:
        """How many ranks share the work of a shard."""
        return _size(self.replica_group)

    @property
    def shards(self) -> int:
        """Into how many shards a copy is cut."""
        return _size(self.shard_group)

    @property
    def owners(self) -> int:
        """Among how many ranks blocks are divided."""
        return self.replicas * self.shards

    @property
    def shard(self) -> int:
        """This rank's shard."""
        return _rank(self.shard_group)

    @property
    def replica(self) -> int:
        """This rank's replica."""
        return _rank(self.replica_group)

    @property
    def owner(self) -> int:
        """This rank as an owner."""
        return self.replica * self.shards + self.shard

    @property
    def groups(self) -> "tuple[ProcessGroup, ...]":
        """The groups of more than one rank."""
        candidates = (self.shard_group, self.replica_group)
        return tuple(group for group in candidates if group is not None and _size(group) > 1)


LOCAL = Placement("local")


class Placements:
    """Finds the placement of each parameter, and makes what process groups that takes.

    Args:
      config: the user's choice; None for one device, whatever process groups there are; "auto" for
        the defaults.

    Raises:
      ValueError: for another value.
    """

    def __init__(self, config: DistributedConfig | Literal["auto"] | None) -> None:
        if config == "auto":
            config = DistributedConfig()
        if config is not None and not isinstance(config, DistributedConfig):
            raise ValueError(
                f'distributed must be "auto", None or a DistributedConfig, got {config!r}.'
            )
        self.config: DistributedConfig | None = config
        self._of_mesh: dict[Any, Placement] = {}
        self._replicated: Placement | None = None

    def of(self, parameter: Tensor) -> Placement:
        """Where a parameter lies.

        Raises:
          ValueError: if `DistributedConfig.group_size` does not fit the parameter's mesh, or as
            `check` does.
        """
        self.check(parameter)
        if self.config is None or not (dist.is_available() and dist.is_initialized()):
            return LOCAL
        if is_dtensor(parameter):
            key = (parameter.device_mesh, tuple(parameter.placements))  # type: ignore[attr-defined]
            if key not in self._of_mesh:
                self._of_mesh[key] = self._of_dtensor(parameter, self.config)
            return self._of_mesh[key]
        if self._replicated is None:
            group = _shared(self.config.group or _world(), self.config.group_size)
            self._replicated = Placement("replicated", group) if _size(group) > 1 else LOCAL
        return self._replicated

    def collective_groups(self, parameters: Sequence[Tensor]) -> "list[ProcessGroup]":
        """The process groups whose ranks save and load state of the parameters together."""
        config = self.config
        collective = [
            parameter
            for parameter in parameters
            if is_dtensor(parameter) or (config is not None and config.collective_state_dict)
        ]
        return list(dict.fromkeys(group for p in collective for group in self.of(p).groups))

    def check(self, parameter: Tensor) -> None:
        """Raises ValueError for a parameter that is flattened, or cut where ranks share nothing."""
        check_unflattened(parameter)
        if self.config is None and is_dtensor(parameter) and _is_cut(parameter):
            raise ValueError(
                "distributed must not be None for parameters that are cut among ranks, got one of "
                f"shape {tuple(parameter.shape)} that this rank has {tuple(local(parameter).shape)}"
                ' of; use "auto".'
            )

    def _of_dtensor(self, parameter: Any, config: DistributedConfig) -> Placement:
        from torch.distributed.tensor import Replicate, Shard

        mesh = parameter.device_mesh
        dims = [
            (placement, mesh.get_group(dim))
            for dim, placement in enumerate(parameter.placements)
            if mesh.size(dim) > 1
        ]
        if not dims:
            return LOCAL
        replicated = [group for placement, group in dims if type(placement) is Replicate]
        by_rows = [
            group for placement, group in dims if type(placement) is Shard and placement.dim == 0
        ]
        if len(replicated) > 1 or len(by_rows) > 1 or len(replicated) + len(by_rows) < len(dims):
            return Placement("gathered", _shared(_flat_group(mesh), config.group_size))
        replica_group = replicated[0] if replicated else None
        if not by_rows:
            group = replica_group and _shared(replica_group, config.group_size)
            return Placement("replicated", group)
        shards = _size(by_rows[0])
        size = config.group_size
        if size not in (None, shards, shards * _size(replica_group)):
            raise ValueError(
                f"group_size must be None, the {shards} ranks of a sharded copy or all "
                f"{shards * _size(replica_group)} for these parameters, got {size}."
            )
        if size == shards:
            replica_group = None
        return Placement("sharded", replica_group, by_rows[0])


def check_unflattened(parameter: Tensor) -> None:
    """Raises ValueError for what FullyShardedDataParallel (FSDP1) makes of parameters."""
    if hasattr(parameter, "_is_flat_param") or hasattr(parameter, "_fsdp_flattened"):
        raise ValueError(
            "params must have their own shapes, got shards that FullyShardedDataParallel (FSDP1) "
            "has flattened; use torch.distributed.fsdp.fully_shard (FSDP2) instead."
        )


def _is_cut(parameter: Any) -> bool:
    """Whether ranks have parts of a DTensor rather than copies."""
    mesh, placements = parameter.device_mesh, parameter.placements
    return any(mesh.size(dim) > 1 and not p.is_replicate() for dim, p in enumerate(placements))


def is_dtensor(tensor: Tensor) -> bool:
    """Whether this is a `DTensor`, asked without the second that importing those takes."""
    return hasattr(tensor, "device_mesh")


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, sharing memory with it; the same object each time."""
    # `to_local` makes a new view of a parameter at every call, and averages are kept by tensor.
    return tensor._local_tensor if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on every rank; a collective for a DTensor."""
    return tensor.full_tensor() if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """A DTensor as `like` lies on the ranks; a collective if it lies otherwise.

    Of tensor parallel layers, gradients may be sums that each rank has a part of, or whole where
    the parameter is sharded.
    """
    if not is_dtensor(tensor) or tensor.placements == like.placements:  # type: ignore[attr-defined]
        return tensor
    moved: Tensor = tensor.redistribute(placements=like.placements)  # type: ignore[attr-defined]
    return moved


def part_of(full: Tensor, like: Any, placements: Sequence[Any] | None = None) -> Tensor:
    """What `like`'s rank holds of a full tensor; no communication.

    Args:
      full: of any shape that can be placed so.
      like: a parameter.
      placements: of DTensors, by dimension of the mesh; None for those of `like`.
    """
    if not is_dtensor(like):
        return full
    from torch.distributed.tensor import DTensor, Replicate

    mesh = like.device_mesh
    replicated = DTensor.from_local(full, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return replicated.redistribute(mesh, placements or like.placements).to_local()


def is_this_rank(to: int | None) -> bool:
    """Whether `to` is this rank of the default process group, or None for all of them.

    Raises:
      ValueError: if it is no rank.
    """
    last = dist.get_world_size() - 1
    is_rank = to is None or (is_integer(to) and 0 <= to <= last)
    check(is_rank, "to", to, f"None or a rank, an integer from 0 to {last}")
    return to is None or to == dist.get_rank()


def rows_of(shard: int, shards: int, length: int) -> tuple[int, int]:
    """Rows [begin, end) of dimension 0 that a shard holds, as `torch.chunk` cuts.

    >>> [rows_of(shard, 4, 5) for shard in range(4)]
    [(0, 2), (2, 4), (4, 5), (5, 5)]
    """
    size = -(-length // shards)
    return min(shard * size, length), min((shard + 1) * size, length)


def all_true(flag: Tensor, groups: "Sequence[ProcessGroup]") -> Tensor:
    """Whether a boolean scalar is true on all ranks of the groups; the host does not wait."""
    if not groups:
        return flag
    number = flag.to(torch.float32)
    for group in groups:
        dist.all_reduce(number, op=dist.ReduceOp.MIN, group=group)
    return number > 0


def _shared(group: "ProcessGroup", size: int | None) -> "ProcessGroup":
    """The ranks of `group` that this rank shares ownership with: `size` neighbours, or all."""
    count = _size(group)
    if size is None or size >= count:
        return group
    if count % size:
        raise ValueError(f"group_size must divide the {count} ranks of the group, got {size}.")
    ranks = dist.get_process_group_ranks(group)
    shares = [ranks[start : start + size] for start in range(0, count, size)]
    if count < dist.get_world_size():
        return _subgroup(next(share for share in shares if dist.get_rank() in share))
    subgroup, _ = dist.new_subgroups_by_enumeration(shares)
    assert subgroup is not None
    return subgroup


def _subgroup(ranks: list[int]) -> "ProcessGroup":
    """A group of some ranks that only those make, as others have other groups or none."""
    group: ProcessGroup = dist.new_group(ranks, use_local_synchronization=True)
    return group


def _flat_group(mesh: Any) -> "ProcessGroup":
    """One group of all ranks of a mesh."""
    if mesh.ndim == 1:
        group: ProcessGroup = mesh.get_group(0)
        return group
    if mesh.size() == dist.get_world_size():
        return _world()
    if mesh.mesh_dim_names is None:
        return _subgroup(mesh.mesh.flatten().tolist())
    flat: ProcessGroup = mesh._flatten("_".join(["shampoo", *mesh.mesh_dim_names])).get_group()
    return flat


def _world() -> "ProcessGroup":
    assert dist.group.WORLD is not None
    return dist.group.WORLD


def _size(group: "ProcessGroup | None") -> int:
    return 1 if group is None else dist.get_world_size(group)


def _rank(group: "ProcessGroup | None") -> int:
    return 0 if group is None else dist.get_rank(group)
