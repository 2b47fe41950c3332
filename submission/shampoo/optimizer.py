"""Distributed Shampoo as a `torch.optim.Optimizer`: groups, the order of a step, checkpoints."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from submission.shampoo import blocking, refresh, state
from submission.shampoo.config import BlockingConfig, ShampooConfig
from submission.shampoo.stack_group import StackGroup

_OPTIONS = tuple(field.name for field in dataclasses.fields(ShampooConfig))
_BLOCKING = tuple(field.name for field in dataclasses.fields(BlockingConfig))


class Shampoo(torch.optim.Optimizer):
    """Shampoo with AdamW grafting (Gupta et al. 2018; Anil et al. 2020; Shi et al. 2023).

    Matrices are preconditioned block by block and take the magnitude of AdamW's step, so that
    AdamW's learning rate carries over; vectors, scalars and embedding tables take AdamW's step.
    All blocks of one shape advance together, without a host synchronisation.

    Every option below may also be given per parameter group, and all but `block_size`,
    `max_dim` and `max_aspect` may change between steps.

    Args:
      params: parameters, named parameters or parameter groups, as for any torch optimizer.
      lr, betas, eps, weight_decay: as in `torch.optim.AdamW`; `betas[1]` also averages factors.
      block_size, max_dim, max_aspect: how parameters become blocks, see `BlockingConfig`.
      exponent, damping, refresh_interval, nesterov: see `ShampooConfig`.

    Raises:
      ValueError: for an option out of range or a complex parameter.

    >>> weight = torch.nn.Parameter(torch.eye(4))
    >>> optimizer = Shampoo([weight], lr=0.1)
    >>> weight.square().sum().backward()
    >>> optimizer.step()
    >>> bool(weight.square().sum() < 4)
    True
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        block_size: int = ShampooConfig.block_size,
        max_dim: int = ShampooConfig.max_dim,
        max_aspect: float = ShampooConfig.max_aspect,
        exponent: float | None = ShampooConfig.exponent,
        damping: float = ShampooConfig.damping,
        refresh_interval: int = ShampooConfig.refresh_interval,
        nesterov: bool = ShampooConfig.nesterov,
    ) -> None:
        config = ShampooConfig(
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            block_size=block_size,
            max_dim=max_dim,
            max_aspect=max_aspect,
            exponent=exponent,
            damping=damping,
            refresh_interval=refresh_interval,
            nesterov=nesterov,
        )
        self._stack_groups: dict[int, list[StackGroup]] = {}
        self._plans: dict[int, list[blocking.Plan]] = {}
        self._skipped: Tensor | None = None
        super().__init__(params, {name: getattr(config, name) for name in _OPTIONS})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters, whose options default to the constructor's."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            ShampooConfig(**{name: group[name] for name in _OPTIONS})
            for parameter in group["params"]:
                if parameter.is_complex():
                    raise ValueError(
                        f"params must be real, got a {parameter.dtype} tensor of shape "
                        f"{tuple(parameter.shape)}."
                    )
        except ValueError:
            self.param_groups.pop()
            raise
        group.setdefault("refresh_step", 0)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step; a step with a non-finite gradient changes nothing and is counted.

        Args:
          closure: reevaluates the model and returns the loss, as in `torch.optim`.

        Returns:
          What the closure returned, or None.

        Raises:
          RuntimeError: if a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        work = [
            (number, self._stack_groups_of(number))
            for number, group in enumerate(self.param_groups)
            if any(p.grad is not None and p.numel() for p in group["params"])
        ]
        if work:
            grads = {number: self._gradients(number) for number, _ in work}
            finite = self._all_finite(
                [
                    stacks.gather(grads[number])
                    for number, stack_groups in work
                    for stacks in stack_groups
                ]
            )
            for number, stack_groups in work:
                self._advance(number, stack_groups, list(grads[number]), finite)
        return loss

    def _gradients(self, number: int) -> dict[int, Tensor]:
        """The group's gradients as matrices, by parameter index."""
        group = self.param_groups[number]
        grads = {}
        for index, parameter in enumerate(group["params"]):
            if parameter.grad is None:
                continue
            if parameter.grad.is_sparse:
                raise RuntimeError(
                    "Shampoo needs dense gradients, got a sparse one for a parameter of shape "
                    f"{tuple(parameter.shape)}; set sparse=False in its embedding."
                )
            grads[index] = parameter.grad.reshape(self._plans[number][index].matrix)
        return grads

    def _all_finite(self, flags: list[Tensor]) -> Tensor:
        """One boolean for the whole step, on the first flag's device; counts skipped steps."""
        device = flags[0].device
        finite = flags[0]
        for flag in flags[1:]:
            finite = finite & flag.to(device)
        if self._skipped is None:
            self._skipped = torch.zeros((), dtype=torch.int64, device=device)
        self._skipped.add_(~finite)
        return finite

    def _advance(
        self, number: int, stack_groups: list[StackGroup], indices: list[int], finite: Tensor
    ) -> None:
        """Steps one group and applies its updates to the weights at `indices`."""
        group = self.param_groups[number]
        group["refresh_step"] += 1
        due = refresh.is_due(group["refresh_step"], group["refresh_interval"])
        parameters = [group["params"][index] for index in indices]
        if group["weight_decay"] != 0:
            shrink = 1 - group["lr"] * group["weight_decay"] * finite.to(torch.float64)
            for kind, rows in _by_kind(parameters).items():
                torch._foreach_mul_(rows, shrink.to(*kind))

        # Weights that are not contiguous have no matrix view; their update takes a way round.
        matrices, detours = {}, []
        for index, parameter in zip(indices, parameters, strict=True):
            matrix = self._plans[number][index].matrix
            if parameter.is_contiguous():
                matrices[index] = parameter.view(matrix)
            else:
                matrices[index] = parameter.new_zeros(matrix, dtype=_state_dtype(parameter))
                detours.append((parameter, matrices[index]))
        for stacks in stack_groups:
            stacks.step(finite.to(stacks.device), group, due)
            stacks.apply(matrices)
        for parameter, change in detours:
            parameter.add_(change.view(parameter.shape))

    def _stack_groups_of(self, number: int) -> list[StackGroup]:
        """The group's stacks, made at its first step and filled from a loaded checkpoint."""
        if number not in self._stack_groups:
            parameters = self.param_groups[number]["params"]
            self._plans[number] = self._plan_group(number)
            kinds = defaultdict(list)
            for row in zip(range(len(parameters)), self._plans[number], strict=True):
                if row[1].tiles:
                    parameter = parameters[row[0]]
                    kinds[_state_dtype(parameter), parameter.device].append(row)
            self._stack_groups[number] = [
                StackGroup(plans, dtype, device) for (dtype, device), plans in kinds.items()
            ]
            state.load(self._stack_groups[number], parameters, self.state)
        return self._stack_groups[number]

    def _plan_group(self, number: int) -> list[blocking.Plan]:
        group = self.param_groups[number]
        config = BlockingConfig(**{name: group[name] for name in _BLOCKING})
        return [blocking.plan(parameter.shape, config) for parameter in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        """State by parameter, independent of how blocks were stacked; plain tensors and numbers."""
        self._export()
        try:
            return super().state_dict()
        finally:
            self._drop_exported()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what `state_dict` returned; options come from it too, as in `torch.optim`.

        Raises:
          ValueError: if the state does not fit the parameters.
        """
        super().load_state_dict(state_dict)
        # torch casts state to the parameter's dtype; float32 state of bf16 weights must survive.
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        here = [parameter for group in self.param_groups for parameter in group["params"]]
        self.state.clear()
        for index, parameter in zip(saved, here, strict=True):
            if index in state_dict["state"]:
                self.state[parameter] = dict(state_dict["state"][index])
        self._stack_groups = {}
        for number in range(len(self.param_groups)):
            self._stack_groups_of(number)

    def __getstate__(self) -> dict[str, Any]:
        self._export()
        exported = defaultdict(dict, self.state)
        self._drop_exported()
        return {**super().__getstate__(), "state": exported}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        super().__setstate__(saved)
        self._stack_groups, self._plans, self._skipped = {}, {}, None

    def _export(self) -> None:
        for number, stack_groups in self._stack_groups.items():
            state.save(stack_groups, self.param_groups[number]["params"], self.state)

    def _drop_exported(self) -> None:
        """Forgets exported copies; what is not in a stack yet stays."""
        for number in self._stack_groups:
            for parameter in self.param_groups[number]["params"]:
                self.state.pop(parameter, None)

    def diagnostics(self) -> dict[str, int]:
        """Counts since construction; reading them synchronises with the device.

        Returns:
          `skipped_steps`: steps with a non-finite gradient.
          `failed_roots`: inverse roots that kept their predecessor.
        """
        groups = [each for groups in self._stack_groups.values() for each in groups]
        stacks = [stack for each in groups for stack in each.stacks]
        preconditioners = [stack.preconditioner for stack in stacks if stack.preconditioner]
        return {
            "skipped_steps": 0 if self._skipped is None else int(self._skipped),
            "failed_roots": sum(int(each.failures) for each in preconditioners),
        }

    def __repr__(self) -> str:
        """The options, and for every parameter its blocks, or why AdamW moves it."""
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            options = ", ".join(f"{name}={group[name]}" for name in _OPTIONS)
            lines.append(f"  group {number}: {options}")
            names = group.get("param_names") or [f"param {i}" for i in range(len(group["params"]))]
            plans = self._plan_group(number)
            for name, parameter, plan in zip(names, group["params"], plans, strict=True):
                if plan.reason:
                    treatment = f"AdamW ({plan.reason})"
                else:
                    treatment = "Shampoo, " + " + ".join(map(_describe, plan.tiles))
                lines.append(f"    {name} {list(parameter.shape)}: {treatment}")
        return "\n".join([*lines, ")"])


def _describe(tile: blocking.Tile) -> str:
    sides = {(True, True): "", (True, False): " left only", (False, True): " right only"}
    return f"{tile.blocks} x [{tile.height}, {tile.width}]{sides[tile.sides]}"


def _state_dtype(parameter: Tensor) -> torch.dtype:
    return torch.float64 if parameter.dtype == torch.float64 else torch.float32


def _by_kind(tensors: list[Tensor]) -> dict[tuple[torch.device, torch.dtype], list[Tensor]]:
    kinds = defaultdict(list)
    for tensor in tensors:
        kinds[tensor.device, tensor.dtype].append(tensor)
    return kinds
