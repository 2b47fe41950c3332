"""One parameter group's stacks, and the group's way through a step."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..plan import blocking, ownership
from ..plan.blocking import ParameterPlan, StackSpec, stack_specs
from ..plan.options import BlockingConfig
from ..plan.refresh import RefreshSchedule
from . import communication
from .averaging import Averager
from .config import StateConfig
from .exchange import decay_of
from .numerics import state_dtype
from .placement import Placement, Placements, local, part_of, rows_of, whole
from .stack_group import StackGroup

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one parameter group is stacked.

    Attributes:
      config: the fixed options it was planned with.
      plans: one for each parameter of the group.
      indices: the parameters that are in a stack, on this or another rank.
      stacks: what this rank owns, by device, parameter dtype and placement.
      owned: for each of them, the stacks of all owners.
    """

    config: StateConfig
    plans: list[ParameterPlan]
    indices: frozenset[int]
    stacks: list[StackGroup]
    owned: list[list[list[StackSpec]]]

    @classmethod
    def of(
        cls,
        parameters: Sequence[Tensor],
        config: StateConfig,
        indices: frozenset[int],
        placements: Placements,
        refresh_interval: int,
    ) -> "Layout":
        """Plans all `parameters` and makes empty stacks for those at `indices`.

        Args:
          placements: tells where parameters lie.
          refresh_interval: as expected, for dividing blocks among ranks.
        """
        plans = [blocking.plan_parameter(parameter.shape, config) for parameter in parameters]
        kinds = defaultdict(list)
        for index in sorted(indices):
            parameter = parameters[index]
            placement = placements.of(parameter)
            kinds[parameter.device, parameter.dtype, placement].append(index)
        # Frozen parameters aside, but whether or not they have had a gradient yet.
        planned = [i for i, p in enumerate(parameters) if i in indices or p.requires_grad]
        all_parts = (part for i in planned for part in blocking.parts_of(i, plans[i]))
        schedule = RefreshSchedule(stack_specs(all_parts))
        stacks, owned = [], []
        for (device, dtype, placement), here in kinds.items():
            rows = [(index, plans[index]) for index in here]
            parts = ownership.assign(rows, placement.owners, refresh_interval)
            layouts = [stack_specs(each) for each in parts]
            own = layouts[placement.owner]
            group = StackGroup(own, here, config, state_dtype(dtype), device, placement, schedule)
            held = {index: _held(parameters[index], plans[index], placement) for index in here}
            if placement.groups and placements.config is not None:
                group.exchange = communication.exchange(
                    group.stacks, layouts, placement, placements.config, held, dtype, device
                )
            stacks.append(group)
            owned.append(layouts)
        return cls(config, plans, indices, stacks, owned)

    @cached_property
    def gathered(self) -> frozenset[int]:
        """The parameters that the optimizer must put together, see `Placement.kind`."""
        return frozenset(
            index
            for stacks in self.stacks
            if stacks.placement.kind == "gathered"
            for index in stacks.indices
        )

    def unblock(self, config: StateConfig) -> None:
        """Makes the moments independent of blocks, which are to be as in `config`.

        Raises:
          ValueError: if it differs in more than its `BlockingConfig`.
        """
        fields = {field.name for field in dataclasses.fields(StateConfig)}
        fields -= {field.name for field in dataclasses.fields(BlockingConfig)}
        was, now = self.config, config
        changed = sorted(name for name in fields if getattr(was, name) != getattr(now, name))
        if changed:
            raise ValueError(
                f"{', '.join(changed)} must stay as at the first step, "
                f"{[getattr(was, name) for name in changed]}, "
                f"got {[getattr(now, name) for name in changed]}."
            )
        for stacks in self.stacks:
            stacks.refresher.collect()
            for stack in stacks.stacks:
                if stack.preconditioner is not None:
                    stack.preconditioner.turn_back(stack.first)

    @cached_property
    def groups(self) -> "tuple[ProcessGroup, ...]":
        """The process groups whose ranks must take or skip a step together."""
        return tuple(group for stacks in self.stacks for group in stacks.placement.groups)

    @cached_property
    def is_divided(self) -> bool:
        """Whether other ranks own some of the blocks."""
        return any(stacks.placement.owners > 1 for stacks in self.stacks)


def _held(parameter: Tensor, plan: ParameterPlan, placement: Placement) -> list[tuple[int, int]]:
    """For each shard, its rows [begin, end) of the parameter as a matrix.

    Where that is a single row, the columns.
    """
    if placement.kind != "sharded":
        return []
    length = parameter.shape[0]
    rows = [rows_of(shard, placement.shards, length) for shard in range(placement.shards)]
    each = parameter.numel() // length if plan.matrix_shape[0] == 1 else 1
    return [(begin * each, end * each) for begin, end in rows]


class GroupStep:
    """One step of one group.

    Args:
      group: the parameter group; `gather` advances its step count.
      layout: its stacks.
      indices: parameters with a gradient.
      averager: what keeps the averages of the weights, or None.

    Attributes:
      layout: as given.

    Raises:
      RuntimeError: if a gradient is sparse, or if the weights are those of evaluation.
    """

    def __init__(
        self,
        group: dict[str, Any],
        layout: Layout,
        indices: Sequence[int],
        averager: Averager | None,
    ) -> None:
        self.layout, self._averager, self._group = layout, averager, group
        lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
        self._options: dict[str, Any] = {**group, "lr": lr, "shrink": _shrink(group)}
        self._parameters = [local(group["params"][index]) for index in indices]
        grads = {index: _dense(group["params"][index]) for index in indices}
        self._moving: Sequence[Tensor] = self._parameters
        if averager is not None:
            self._moving = averager.begin(self._parameters)
        moving = dict(zip(indices, self._moving, strict=True))
        # Of parameters without a gradient here, another rank may know one.
        others = layout.indices.difference(indices) if layout.is_divided else ()
        moving.update((index, local(group["params"][index])) for index in others)
        self._gathered = {index: moving.pop(index) for index in layout.gathered if index in moving}
        self._weights: dict[int, Tensor] = {}
        self._detours: list[tuple[Tensor, Tensor]] = []
        for index, weight in moving.items():
            matrix = _as_matrix(weight, layout.plans[index])
            self._weights[index] = matrix
            if not weight.is_contiguous():  # then there is no view, and this is a copy
                self._detours.append((weight, matrix))
        for index, weight in self._gathered.items():
            shape, dtype = layout.plans[index].matrix_shape, state_dtype(weight.dtype)
            self._weights[index] = torch.zeros(shape, dtype=dtype, device=weight.device)
            if index in grads:
                grads[index] = self._put_together(index, grads[index])
        self._grads = {
            index: _as_matrix(local(grad), layout.plans[index]) for index, grad in grads.items()
        }

    def _put_together(self, index: int, grad: Tensor) -> Tensor:
        """The whole of a gradient that lies in no way the exchanges know."""
        if self._options["decay_mode"] == "l2":
            grad = grad.add(self._group["params"][index], alpha=self._options["weight_decay"])
        return whole(grad)

    def gather(self) -> list[Tensor]:
        """Brings gradients into the stacks; whether they are finite, for each stack group."""
        self._group["refresh_step"] += 1
        self._options["refresh_step"] = self._group["refresh_step"]
        return [
            stacks.gather(self._grads, self._weights, self._options)
            for stacks in self.layout.stacks
        ]

    def advance(self, finite: Tensor) -> None:
        """Moves the weights where `finite` says so, a boolean scalar."""
        for stacks in self.layout.stacks:
            stacks.step(finite.to(stacks.device), self._weights, self._options)
        for weight, matrix in self._detours:
            weight.copy_(matrix.view(weight.shape))
        for index, weight in self._gathered.items():
            self._take_apart(index, weight, finite)
        if self._averager is not None:
            self._averager.finish(self._parameters, self._moving, finite, self._options)

    def _take_apart(self, index: int, weight: Tensor, finite: Tensor) -> None:
        """Moves what this rank holds of a parameter by its part of the whole update."""
        parameter, update = self._group["params"][index], self._weights[index]
        exact = weight.to(update.dtype)
        moved = exact + part_of(update.view(parameter.shape), parameter)
        decay = decay_of(finite, self._options, update.dtype)
        if index in self._grads and decay is not None:
            moved -= exact * decay
        weight.copy_(moved)


def _as_matrix(held: Tensor, plan: ParameterPlan) -> Tensor:
    """What a rank holds of a parameter, as rows of its matrix or, of a single row, columns."""
    if plan.matrix_shape[0] == 1:
        return held.reshape(1, held.numel())
    return held.reshape(len(held), plan.matrix_shape[1])


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


def _dense(parameter: Tensor) -> Tensor:
    grad = parameter.grad
    assert grad is not None
    if grad.layout != torch.strided:
        raise RuntimeError(
            "Shampoo needs dense gradients, got a sparse one for a parameter of shape "
            f"{tuple(grad.shape)}; set sparse=False in its embedding."
        )
    return grad


def _shrink(group: Mapping[str, Any]) -> float:
    """The strength of decoupled decay, to be multiplied by the learning rate."""
    decay: float = group["weight_decay"]
    if group["decay_mode"] == "l2":
        return 0.0
    if group["decay_mode"] == "independent":
        peak = max(group["peak_lr"], group.get("max_lr", 0.0))  # max_lr: OneCycleLR's
        return decay / peak if peak > 0 else 0.0
    return decay
