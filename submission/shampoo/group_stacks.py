"""The stacks of one parameter group: by device, dtype and placement of its parameters."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..plan import ownership
from ..plan.blocking import ParameterPlan, StackSpec, parts_of, plan_parameter, stack_specs
from ..plan.refresh import RefreshSchedule
from .config import StateConfig, state_dtype
from .distributor import Replicated, Weights
from .placed_stacks import PlacedStacks
from .placement import Placement, Placements, rows_of
from .sharded import Sharded

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Layout = tuple[torch.Size, torch.dtype, torch.device, Placement]


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
      placed_stacks: what this rank owns, by device, parameter dtype and placement.
      layouts: shape, dtype, device and placement of each parameter in the stacks, by its index.
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
        self.layouts = {
            index: layout_of(parameters[index], placements) for index in sorted(indices)
        }
        kinds = defaultdict(list)
        for index, (_, dtype, device, placement) in self.layouts.items():
            kinds[device, dtype, placement].append(index)
        # Frozen parameters aside, but whether or not they have had a gradient yet.
        planned = [i for i, p in enumerate(parameters) if i in indices or p.requires_grad]
        schedule = RefreshSchedule(
            stack_specs(part for index in planned for part in parts_of(index, self.plans[index]))
        )
        self.placed_stacks: list[PlacedStacks] = []
        for (device, dtype, placement), members in kinds.items():
            plans = [(index, self.plans[index]) for index in members]
            shares = ownership.assign(plans, placement.owners, refresh_interval)
            stacks = PlacedStacks(
                [_in_order(stack_specs(share)) for share in shares],
                members,
                config,
                state_dtype(dtype),
                device,
                placement,
                schedule,
                self.weights,
            )
            if placement.groups and placements.config is not None:
                common = self.weights, stacks.stacks, stacks.specs, placement, placements.config
                if placement.kind == "sharded":
                    rows = {
                        index: _row_ranges(parameters[index], self.plans[index], placement)
                        for index in members
                    }
                    stacks.distributor = Sharded(*common, stacks.dtype, device, rows)
                else:
                    moved = stacks.dtype if config.averaging == "schedule_free" else dtype
                    stacks.distributor = Replicated(*common, stacks.dtype, moved, device)
            self.placed_stacks.append(stacks)
        self.gathered = frozenset(
            index
            for stacks in self.placed_stacks
            if stacks.placement.kind == "gathered"
            for index in stacks.indices
        )

    def to_parameter_basis(self) -> None:
        """Rotates moments out of eigenbases; called before blocks are re-cut."""
        for stacks in self.placed_stacks:
            stacks.refresher.collect()
            for stack in stacks.stacks:
                if stack.preconditioner is not None:
                    stack.preconditioner.to_parameter_basis(stack.first)

    @cached_property
    def process_groups(self) -> "tuple[ProcessGroup, ...]":
        """The process groups whose ranks must take or skip a step together."""
        return tuple(group for stacks in self.placed_stacks for group in stacks.placement.groups)

    @cached_property
    def is_divided(self) -> bool:
        """Whether other ranks own some of the blocks."""
        return any(stacks.placement.owners > 1 for stacks in self.placed_stacks)


def _in_order(specs: Sequence[StackSpec]) -> list[StackSpec]:
    """The same stacks, those with preconditioners first: they are adjacent in memory."""
    return sorted(specs, key=lambda spec: not any(spec.sides))


def layout_of(parameter: Tensor, placements: Placements) -> Layout:
    """What stacks are built for; another one needs others."""
    return parameter.shape, parameter.dtype, parameter.device, placements.of(parameter)


def _row_ranges(
    parameter: Tensor, plan: ParameterPlan, placement: Placement
) -> list[tuple[int, int]]:
    """For each shard, its rows [begin, end) of the parameter as a matrix.

    Columns, where the matrix is a single row.
    """
    length = parameter.shape[0]
    rows = [rows_of(shard, placement.shards, length) for shard in range(placement.shards)]
    height, width = plan.matrix_shape
    per_index = (width if height == 1 else height) // length
    return [(begin * per_index, end * per_index) for begin, end in rows]
