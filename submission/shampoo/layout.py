"""One parameter group's stacks, and the group's way through a step."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from submission.shampoo import blocking
from submission.shampoo.averaging import Averager
from submission.shampoo.config import StateConfig
from submission.shampoo.stack_group import StackGroup


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one parameter group is stacked.

    Attributes:
      config: the fixed options it was planned with.
      plans: one for each parameter of the group.
      indices: the parameters that are in a stack.
      stacks: their stacks, by device and parameter dtype.
    """

    config: StateConfig
    plans: list[blocking.Plan]
    indices: frozenset[int]
    stacks: list[StackGroup]

    @classmethod
    def of(
        cls, parameters: Sequence[Tensor], config: StateConfig, indices: frozenset[int]
    ) -> "Layout":
        """Plans all `parameters` and makes empty stacks for those at `indices`."""
        plans = [blocking.plan(parameter.shape, config) for parameter in parameters]
        kinds = defaultdict(list)
        for index in sorted(indices):
            parameter = parameters[index]
            kinds[parameter.device, parameter.dtype].append((index, plans[index]))
        stacks = [
            StackGroup(
                rows, config, torch.float64 if dtype == torch.float64 else torch.float32, device
            )
            for (device, dtype), rows in kinds.items()
        ]
        return cls(config, plans, indices, stacks)


class GroupStep:
    """One step of one group.

    Args:
      group: the parameter group; `gather` advances its step count.
      layout: its stacks.
      indices: parameters with a gradient.
      averager: what keeps the averages of the weights, or None.

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
        self._layout, self._averager = layout, averager
        self._parameters = [group["params"][index] for index in indices]
        grads = {index: _dense(group["params"][index]) for index in indices}
        self._moving: Sequence[Tensor] = self._parameters
        if averager is not None:
            self._moving = averager.begin(self._parameters)
        self._weights: dict[int, Tensor] = {}
        self._detours: list[tuple[Tensor, Tensor]] = []
        for index, weight in zip(indices, self._moving, strict=True):
            matrix = layout.plans[index].matrix
            self._weights[index] = weight.reshape(matrix)
            if not weight.is_contiguous():  # then there is no view, and this is a copy
                self._detours.append((weight, self._weights[index]))
        self._grads = {
            index: grad.reshape(layout.plans[index].matrix) for index, grad in grads.items()
        }
        self._group = group
        lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
        self._options: dict[str, Any] = {**group, "lr": lr, "shrink": _shrink(group)}

    def gather(self) -> list[Tensor]:
        """Copies gradients into the stacks; whether they are finite, for each stack group."""
        self._group["refresh_step"] += 1
        self._options["refresh_step"] = self._group["refresh_step"]
        return [
            stacks.gather(self._grads, self._weights, self._options)
            for stacks in self._layout.stacks
        ]

    def advance(self, finite: Tensor) -> None:
        """Moves the weights where `finite` says so, a boolean scalar."""
        for stacks in self._layout.stacks:
            stacks.step(finite.to(stacks.device), self._weights, self._options)
        for weight, matrix in self._detours:
            weight.copy_(matrix.view(weight.shape))
        if self._averager is not None:
            self._averager.finish(self._parameters, self._moving, finite, self._options)


def unscale(parameters: Sequence[Tensor], scale: Tensor) -> None:
    """Divides gradients by a `torch.amp.GradScaler`'s scale, in place."""
    kinds = defaultdict(list)
    for parameter in parameters:
        if parameter.grad is not None:
            kinds[parameter.grad.device].append(parameter.grad)
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
