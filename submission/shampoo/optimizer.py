"""Distributed Shampoo as a `torch.optim.Optimizer`: groups, the order of a step, checkpoints."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from submission.shampoo import blocking, refresh, state
from submission.shampoo.config import BlockingConfig, ShampooConfig
from submission.shampoo.stack_group import StackGroup

_OPTIONS = tuple(field.name for field in dataclasses.fields(ShampooConfig))
_BLOCKING = tuple(field.name for field in dataclasses.fields(BlockingConfig))


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How one parameter group is stacked.

    Attributes:
      config: the blocking options it was planned with.
      plans: one for each parameter of the group.
      indices: the parameters that are in a stack.
      stacks: their stacks, by device and parameter dtype.
    """

    config: BlockingConfig
    plans: list[blocking.Plan]
    indices: frozenset[int]
    stacks: list[StackGroup]

    @classmethod
    def of(
        cls, parameters: Sequence[Tensor], config: BlockingConfig, indices: frozenset[int]
    ) -> "_Layout":
        """Plans all `parameters` and makes empty stacks for those at `indices`."""
        plans = [blocking.plan(parameter.shape, config) for parameter in parameters]
        kinds = defaultdict(list)
        for index in sorted(indices):
            parameter = parameters[index]
            kinds[parameter.device, parameter.dtype].append((index, plans[index]))
        stacks = [
            StackGroup(rows, torch.float64 if dtype == torch.float64 else torch.float32, device)
            for (device, dtype), rows in kinds.items()
        ]
        return cls(config, plans, indices, stacks)


class Shampoo(torch.optim.Optimizer):
    """Shampoo with AdamW grafting (Gupta et al. 2018; Anil et al. 2020; Shi et al. 2023).

    Matrices are preconditioned block by block and take the magnitude of AdamW's step, so that
    AdamW's learning rate carries over; vectors, scalars and embedding tables take AdamW's step.
    All blocks of one shape advance together; the host never waits for the device between refreshes
    of the inverse roots.

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
        self._layouts: dict[int, _Layout] = {}
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

        work = []
        for number, group in enumerate(self.param_groups):
            indices = [i for i, p in enumerate(group["params"]) if p.grad is not None and p.numel()]
            if indices:
                layout = self._layout(number, indices)
                work.append((group, layout, self._gradients(group, layout, indices)))
        if work:
            finite = self._all_finite(
                [stacks.gather(grads) for _, layout, grads in work for stacks in layout.stacks]
            )
            for group, layout, grads in work:
                self._advance(group, layout, list(grads), finite)
        return loss

    def _gradients(
        self, group: dict[str, Any], layout: _Layout, indices: list[int]
    ) -> dict[int, Tensor]:
        """Gradients as matrices, by parameter index."""
        grads = {}
        for index in indices:
            grad = group["params"][index].grad
            if grad.is_sparse:
                raise RuntimeError(
                    "Shampoo needs dense gradients, got a sparse one for a parameter of shape "
                    f"{tuple(grad.shape)}; set sparse=False in its embedding."
                )
            grads[index] = grad.reshape(layout.plans[index].matrix)
        return grads

    def _all_finite(self, flags: list[Tensor]) -> Tensor:
        """One boolean for the whole step, on the first flag's device; counts skipped steps."""
        finite = flags[0]
        for flag in flags[1:]:
            finite = finite & flag.to(finite.device)
        if self._skipped is None:
            self._skipped = torch.zeros((), dtype=torch.int64, device=finite.device)
        self._skipped.add_((~finite).to(self._skipped.device))
        return finite

    def _advance(
        self, group: dict[str, Any], layout: _Layout, indices: list[int], finite: Tensor
    ) -> None:
        """Steps one group and applies its updates to the weights at `indices`."""
        group["refresh_step"] += 1
        due = refresh.is_due(group["refresh_step"], group["refresh_interval"])
        lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
        options = {**group, "lr": lr}
        matrices, detours = self._weights(group, layout, indices)
        for stacks in layout.stacks:
            here = finite.to(stacks.device)
            stacks.step(here, options, due)
            decay = None
            if group["weight_decay"] != 0:
                decay = here.to(stacks.dtype) * (lr * group["weight_decay"])
            stacks.apply(matrices, decay)
        for parameter, matrix in detours:
            parameter.copy_(matrix.view(parameter.shape))

    def _weights(
        self, group: dict[str, Any], layout: _Layout, indices: list[int]
    ) -> tuple[dict[int, Tensor], list[tuple[Tensor, Tensor]]]:
        """Weights as matrices by index, and those that are copies, since no view exists."""
        matrices, detours = {}, []
        for index in indices:
            parameter, matrix = group["params"][index], layout.plans[index].matrix
            if parameter.is_contiguous():
                matrices[index] = parameter.view(matrix)
            else:
                matrices[index] = parameter.reshape(matrix)
                detours.append((parameter, matrices[index]))
        return matrices, detours

    def _layout(self, number: int, indices: Collection[int]) -> _Layout:
        """The group's stacks with at least the parameters at `indices`.

        Parameters enter when they have their first gradient, so that frozen ones cost nothing;
        stacks are then built anew around the state of those that were there before.
        """
        group = self.param_groups[number]
        config = _blocking_config(group)
        layout = self._layouts.get(number)
        if layout is not None:
            if layout.config != config:
                raise ValueError(
                    f"{', '.join(_BLOCKING)} must stay as they were at the first step, "
                    f"{layout.config}, got {config}."
                )
            if layout.indices.issuperset(indices):
                return layout
            indices = layout.indices.union(indices)
        saved = self._exported([number])
        layout = _Layout.of(group["params"], config, frozenset(indices))
        state.load(layout.stacks, group["params"], saved)
        self._layouts[number] = layout
        for parameter, step in state.steps(layout.stacks, group["params"]):
            self.state[parameter] = {"step": step}
        return layout

    def _exported(self, numbers: Collection[int]) -> defaultdict[Tensor, dict[str, Any]]:
        """Complete state by parameter, from the groups' stacks or, before those, as loaded."""
        exported: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for parameter, entry in self.state.items():
            if len(entry) > 1:
                exported[parameter] = entry
        for number in self._layouts.keys() & numbers:
            stacks = self._layouts[number].stacks
            state.save(stacks, self.param_groups[number]["params"], exported)
        return exported

    def state_dict(self) -> dict[str, Any]:
        """State by parameter, independent of how blocks were stacked; plain tensors and numbers."""
        live, self.state = self.state, self._exported(self._layouts)
        try:
            return super().state_dict()
        finally:
            self.state = live

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what `state_dict` returned; options come from it too, as in `torch.optim`.

        Raises:
          ValueError: if the state does not fit the parameters; nothing has changed then.
        """
        before = dict(self.__dict__)
        try:
            super().load_state_dict(state_dict)
            # torch casts state to the parameter's dtype; bf16 weights must keep float32 state.
            saved = [index for group in state_dict["param_groups"] for index in group["params"]]
            here = [parameter for group in self.param_groups for parameter in group["params"]]
            self.state = defaultdict(dict)
            for index, parameter in zip(saved, here, strict=True):
                if index in state_dict["state"]:
                    self.state[parameter] = dict(state_dict["state"][index])
            for number, group in enumerate(self.param_groups):
                self._layout(
                    number, [i for i, p in enumerate(group["params"]) if self.state.get(p)]
                )
        except BaseException:
            self.__dict__.update(before)
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "state": self._exported(self._layouts)}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        super().__setstate__(saved)
        self._layouts, self._skipped = {}, None

    def diagnostics(self) -> dict[str, int]:
        """Counts since construction or loading; reading them synchronises with the device.

        Returns:
          `skipped_steps`: steps with a non-finite gradient.
          `failed_roots`: inverse roots that kept their predecessor.
        """
        groups = [group for layout in self._layouts.values() for group in layout.stacks]
        stacks = [stack for group in groups for stack in group.stacks]
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
            config = _blocking_config(group)
            for name, parameter in zip(names, group["params"], strict=True):
                plan = blocking.plan(parameter.shape, config)
                if plan.reason:
                    treatment = f"AdamW ({plan.reason})"
                else:
                    treatment = "Shampoo, " + " + ".join(map(_describe, plan.tiles))
                lines.append(f"    {name} {list(parameter.shape)}: {treatment}")
        return "\n".join([*lines, ")"])


def _blocking_config(group: dict[str, Any]) -> BlockingConfig:
    return BlockingConfig(**{name: group[name] for name in _BLOCKING})


def _describe(tile: blocking.Tile) -> str:
    sides = {(True, True): "", (True, False): " left only", (False, True): " right only"}
    return f"{tile.blocks} x [{tile.height}, {tile.width}]{sides[tile.sides]}"
