"""Stacks, averages and validated options of one parameter group, and the group's step."""

import dataclasses
import operator
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..plan import ownership
from ..plan.blocking import ParameterPlan, StackSpec, parts_of, plan_parameter, stack_specs
from ..plan.refresh import RefreshSchedule
from .averaging import Averager
from .config import FIXED, OPTIONS, ShampooConfig, StateConfig, check_lr, state_dtype
from .distributor import Replicated, Weights, decay_fraction
from .placement import Placement, Placements, local, part_of, rows_of, whole
from .sharded import Sharded
from .stack_group import StackGroup
from .step import StepOptions

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


# The fields of `StepOptions` that are options of a parameter group as they are.
_TAKEN = tuple(
    field.name
    for field in dataclasses.fields(StepOptions)
    if field.name not in ("lr", "l2", "decay", "refresh_step")
)
_COMPARED = tuple(name for name in OPTIONS if name != "lr")


class GroupStacks:
    """The stacks of one parameter group.

    Args:
      parameters: all of the group; all are planned.
      config: the fixed options.
      indices: the parameters that are in a stack, on this or another rank; stacks are empty yet.
      placements: tells where parameters lie.
      refresh_interval: the expected one, for dividing blocks among ranks.

    Attributes:
      config, indices: as given.
      plans: one for each parameter of the group.
      stack_groups: what this rank owns, by device, parameter dtype and placement.
      owned: for each of them, the stacks of all owners.
      gathered: the parameters that the optimizer must put together, see `Placement.kind`.
      weights: this rank's shards of the parameters.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        config: StateConfig,
        indices: frozenset[int],
        placements: Placements,
        refresh_interval: int,
    ) -> None:
        self.config, self.indices = config, indices
        self.plans = [plan_parameter(parameter.shape, config) for parameter in parameters]
        self.weights = Weights([plan.matrix_shape for plan in self.plans])
        kinds = defaultdict(list)
        for index in sorted(indices):
            parameter = parameters[index]
            kinds[parameter.device, parameter.dtype, placements.of(parameter)].append(index)
        # Frozen parameters aside, but whether or not they have had a gradient yet.
        planned = [i for i, p in enumerate(parameters) if i in indices or p.requires_grad]
        schedule = RefreshSchedule(
            stack_specs(part for index in planned for part in parts_of(index, self.plans[index]))
        )
        self.stack_groups: list[StackGroup] = []
        self.owned: list[list[list[StackSpec]]] = []
        for (device, dtype, placement), members in kinds.items():
            plans = [(index, self.plans[index]) for index in members]
            parts = ownership.assign(plans, placement.owners, refresh_interval)
            specs = [stack_specs(share) for share in parts]
            group = StackGroup(
                specs[placement.owner],
                members,
                config,
                state_dtype(dtype),
                device,
                placement,
                schedule,
            )
            if placement.groups and placements.config is not None:
                common = group.stacks, specs, placement, placements.config, state_dtype(dtype)
                if placement.kind == "sharded":
                    rows = {
                        index: _row_ranges(parameters[index], self.plans[index], placement)
                        for index in members
                    }
                    group.distributor = Sharded(*common, device, rows)
                else:
                    group.distributor = Replicated(*common, dtype, device)
            self.stack_groups.append(group)
            self.owned.append(specs)
        self.gathered = frozenset(
            index
            for stacks in self.stack_groups
            if stacks.placement.kind == "gathered"
            for index in stacks.indices
        )

    def to_parameter_basis(self) -> None:
        """Rotates moments out of eigenbases; called before blocks are re-cut."""
        for stacks in self.stack_groups:
            stacks.refresher.collect()
            for stack in stacks.stacks:
                if stack.preconditioner is not None:
                    stack.preconditioner.to_parameter_basis(stack.first)

    @cached_property
    def process_groups(self) -> "tuple[ProcessGroup, ...]":
        """The process groups whose ranks must take or skip a step together."""
        return tuple(group for stacks in self.stack_groups for group in stacks.placement.groups)

    @cached_property
    def is_divided(self) -> bool:
        """Whether other ranks own some of the blocks."""
        return any(stacks.placement.owners > 1 for stacks in self.stack_groups)


def _row_ranges(
    parameter: Tensor, plan: ParameterPlan, placement: Placement
) -> list[tuple[int, int]]:
    """For each shard, its rows [begin, end) of the parameter as a matrix.

    Columns, where the matrix is a single row.
    """
    length = parameter.shape[0]
    rows = [rows_of(shard, placement.shards, length) for shard in range(placement.shards)]
    width = parameter.numel() // length if plan.matrix_shape[0] == 1 else 1
    return [(begin * width, end * width) for begin, end in rows]


class GroupState:
    """Stacks, averages and validated options of one parameter group.

    A step calls `begin`, `gather` and `apply`.

    Attributes:
      stacks: None before the first step.
      parameters: those in the stacks.
      averager: the averages of the weights, if the option "averaging" has been set.
    """

    def __init__(self) -> None:
        self.stacks: GroupStacks | None = None
        self.parameters: list[Tensor] = []
        self.averager: Averager | None = None
        self._lr: Any = None
        self._validated: list[Any] = []
        self._config: StateConfig | None = None
        self._group: dict[str, Any] = {}
        self._shards: list[Tensor] = []
        self._moved: Sequence[Tensor] = []
        self._grads: dict[int, Tensor] = {}
        self._gathered: dict[int, Tensor] = {}

    def is_cleared(self, state: Mapping[Tensor, Any]) -> bool:
        """Whether there are stacks, but `Optimizer.state` has none of their entries any more."""
        return bool(self.parameters) and all(
            state.get(parameter) in (None, {}) for parameter in self.parameters
        )

    def config(self, group: Mapping[str, Any]) -> StateConfig:
        """The fixed options, after all are validated: again only when one has changed.

        Raises:
          ValueError: if an option is out of range.
        """
        if group["lr"] is not self._lr:
            check_lr(group["lr"])
            self._lr = group["lr"]
        # Compared by identity: until they are validated, they may be anything, tensors for one.
        values = [group[name] for name in _COMPARED]
        values.extend(group["betas"])
        last = self._validated
        if self._config is None or not (
            len(values) == len(last) and all(map(operator.is_, values, last))
        ):
            ShampooConfig(**{name: group[name] for name in OPTIONS})
            self._config = StateConfig(**{name: group[name] for name in FIXED})
            self._validated = values
        return self._config

    def finish(self) -> None:
        """Installs the results of refreshes that run beside training."""
        for stacks in self.stacks.stack_groups if self.stacks else ():
            stacks.refresher.collect()

    def stacked_indices(
        self, parameters: Sequence[Tensor], indices: Collection[int], placements: Placements
    ) -> Collection[int]:
        """The parameters that must be in the stacks, the same on all ranks.

        On one device those at `indices`, which have a gradient. Elsewhere a rank cannot know
        whether another has one, and all that are not frozen enter at the first step.
        """
        if self.stacks is not None and not self.stacks.is_divided:
            return indices
        if self.stacks is None and all(placements.of(p).owners == 1 for p in parameters):
            return indices
        trained = {i for i, p in enumerate(parameters) if p.requires_grad and p.numel()}
        return trained.union(indices)

    def begin(self, group: dict[str, Any], indices: Sequence[int]) -> GroupStacks:
        """Starts a step; changes no state but the averager's.

        Args:
          group: the parameter group.
          indices: parameters with a gradient.

        Returns:
          The stacks, which must exist.

        Raises:
          RuntimeError: if a gradient is sparse, or if the weights are those of evaluation.
        """
        stacks = self.stacks
        assert stacks is not None
        self._group = group
        parameters = group["params"]
        self._shards = [_shard(parameters[index]) for index in indices]
        self._grads = {index: _dense_grad(parameters[index]) for index in indices}
        self._moved = self._shards
        if self.averager is not None:
            self._moved = self.averager.begin(self._shards)
        moved = dict(zip(indices, self._moved, strict=True))
        pairs = zip(indices, self._shards, self._moved, strict=True)
        copies = {index for index, shard, copy in pairs if copy is not shard}
        # Another rank may have a gradient of parameters that have none here.
        absent = stacks.indices.difference(indices) if stacks.is_divided else ()
        moved.update((index, _shard(parameters[index])) for index in absent)
        weights = stacks.weights
        weights.drop_temporary()
        for index, shard in moved.items():
            if index not in stacks.gathered:
                weights.set(index, shard, is_temporary=index in copies)
                continue
            shape, dtype = stacks.plans[index].matrix_shape, state_dtype(shard.dtype)
            update = torch.zeros(shape, dtype=dtype, device=shard.device)
            weights.set(index, update, is_temporary=True)
            if index in self._grads:
                self._grads[index] = self._gather_grad(index, self._grads[index])
        self._gathered = {index: moved[index] for index in stacks.gathered if index in moved}
        self._grads = {index: _shard(grad) for index, grad in self._grads.items()}
        return stacks

    def _gather_grad(self, index: int, grad: Tensor) -> Tensor:
        """The full gradient of a parameter whose placement the distributors do not know."""
        if self._group["decay_mode"] == "l2":
            grad = grad.add(self._group["params"][index], alpha=self._group["weight_decay"])
        return whole(grad)

    def gather(self) -> list[Tensor]:
        """Brings gradients into the stacks; for each stack group, whether they are finite."""
        assert self.stacks is not None
        self._options = step_options(self._group)
        self._group["refresh_step"] += 1
        weights, options = self.stacks.weights, self._options
        return [stacks.gather(self._grads, weights, options) for stacks in self.stacks.stack_groups]

    def apply(self, finite: Tensor) -> None:
        """Moves the weights where `finite` says so, a boolean scalar."""
        assert self.stacks is not None
        weights, options = self.stacks.weights, self._options
        for stacks in self.stacks.stack_groups:
            stacks.step(finite.to(stacks.device), weights, options)
        for original, moved_copy in weights.copied.values():
            original.copy_(moved_copy.view(original.shape))
        for index, shard in self._gathered.items():
            self._apply_gathered(index, shard, finite)
        if self.averager is not None:
            self.averager.finish(self._shards, self._moved, finite, self._group)
        weights.drop_temporary()
        self._shards, self._moved, self._grads, self._gathered = [], [], {}, {}

    def _apply_gathered(self, index: int, shard: Tensor, finite: Tensor) -> None:
        """Moves this rank's shard of a parameter by its part of the full update."""
        assert self.stacks is not None
        parameter, update = self._group["params"][index], self.stacks.weights.matrices[index]
        exact = shard.to(update.dtype)
        moved = exact + part_of(update.view(parameter.shape), parameter)
        decay = decay_fraction(finite, self._options, update.dtype)
        if index in self._grads and decay is not None:
            moved -= exact * decay
        shard.copy_(moved)


def _shard(tensor: Tensor) -> Tensor:
    """This rank's shard of a tensor; `placement.local` without its call for plain tensors."""
    return local(tensor) if hasattr(tensor, "device_mesh") else tensor


def _dense_grad(parameter: Tensor) -> Tensor:
    grad = parameter.grad
    assert grad is not None
    if grad.layout != torch.strided:
        raise RuntimeError(
            "Shampoo needs dense gradients, got a sparse one for a parameter of shape "
            f"{tuple(grad.shape)}; set sparse=False in its embedding."
        )
    return grad


def unscale(parameters: Sequence[Tensor], scale: Tensor) -> None:
    """Divides gradients by a `torch.amp.GradScaler`'s scale, in place."""
    kinds = defaultdict(list)
    for parameter in parameters:
        if parameter.grad is not None:
            kinds[parameter.grad.device].append(local(parameter.grad))
    for device, grads in kinds.items():
        # Its reciprocal in float64, as the scaler itself does, so that powers of two stay exact.
        inverse = scale.double().reciprocal().float().to(device, non_blocking=True)
        torch._foreach_mul_(grads, inverse)


def step_options(group: Mapping[str, Any]) -> StepOptions:
    """The options of a validated parameter group at its next step."""
    lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
    strength, mode = group["weight_decay"], group["decay_mode"]
    l2, decay = (strength, 0.0) if mode == "l2" else (0.0, strength)
    if mode == "independent":
        peak = max(group["peak_lr"], group.get("max_lr", 0.0))  # max_lr: OneCycleLR's
        decay = strength / peak if peak > 0 else 0.0
    chosen = {name: group[name] for name in _TAKEN}
    step = group["refresh_step"] + 1
    return StepOptions(lr=lr, l2=l2, decay=decay, refresh_step=step, **chosen)


def complete(group: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Adds missing options and counters to a parameter group."""
    for name in OPTIONS:
        group.setdefault(name, defaults.get(name, getattr(ShampooConfig, name)))
    group.setdefault("refresh_step", 0)
    group.setdefault("skipped_steps", 0)
    group.setdefault("peak_lr", float(group["lr"]))
