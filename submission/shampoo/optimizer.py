"""Distributed Shampoo as a `torch.optim.Optimizer`: options, and the order of a step."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..plan.options import Grafting, Method
from . import description
from .config import DistributedConfig, ShampooConfig, StateConfig
from .kept import FIXED, OPTIONS
from .layout import GroupStep, unscale
from .placement import Placements, all_true, local
from .stacked import StackedOptimizer, complete

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Shampoo(StackedOptimizer):
    """Shampoo, SOAP and KL-Shampoo (Gupta et al. 2018; Vyas et al. 2024; Lin et al. 2025).

    Matrices are preconditioned block by block. Shampoo's steps take the magnitude of AdamW's, the
    other methods' have it by themselves, so that AdamW's learning rate carries over; vectors,
    scalars and embedding tables take AdamW's step. All blocks of one shape advance together, and
    the host does not wait for the device.

    Every option may also be given per parameter group, and all but those of `StateConfig` itself
    may change between steps. Where one of `BlockingConfig` does, moments and counters stay and
    factors begin anew, with the next gradient. `ShampooConfig` documents each; `presets` has proven
    combinations.

    As in `torch.optim`, clearing `state` lets all parameters begin anew; here that holds for all
    parameters of a group, while removing the entries of some of them has no effect.

    Args:
      params: parameters, named parameters or parameter groups, as for any torch optimizer.
      lr, betas, eps, weight_decay: as in `torch.optim.AdamW`; `betas[1]` also averages factors.
      method, block_size and all others: see `ShampooConfig`.
      distributed: how work and state are divided among ranks. "auto" divides them among all ranks
        wherever there is a process group, and follows the mesh of parameters that are DTensors;
        then every rank must call `step`. None keeps all on every rank.

    Raises:
      ValueError: for an option out of range or a complex parameter.

    >>> weight = torch.nn.Parameter(torch.eye(4))
    >>> optimizer = Shampoo([weight], lr=0.1)
    >>> weight.square().sum().backward()
    >>> optimizer.step()
    >>> bool(weight.square().sum() < 4)
    True
    """

    # GradScaler then hands its scale over instead of waiting for the device to see an overflow.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        method: Method = ShampooConfig.method,
        block_size: int = ShampooConfig.block_size,
        block_aspect: float = ShampooConfig.block_aspect,
        max_dim: int = ShampooConfig.max_dim,
        oversize: Literal["diagonal", "one_sided"] = ShampooConfig.oversize,
        max_aspect: float = ShampooConfig.max_aspect,
        refresh_interval: int = ShampooConfig.refresh_interval,
        refresh: Literal["staggered", "together"] = ShampooConfig.refresh,
        refresh_tolerance: float = ShampooConfig.refresh_tolerance,
        overlap: bool = ShampooConfig.overlap,
        factor_interval: int = ShampooConfig.factor_interval,
        exponent: float | None = ShampooConfig.exponent,
        damping: float = ShampooConfig.damping,
        root_solver: Literal[
            "auto", "eigh", "coupled_newton", "newton_denman_beavers"
        ] = ShampooConfig.root_solver,
        basis_solver: Literal["auto", "eigh", "qr", "cholesky_qr"] = ShampooConfig.basis_solver,
        grafting: Grafting | Literal["auto"] | None = ShampooConfig.grafting,
        grafting_scope: Literal["block", "layer"] = ShampooConfig.grafting_scope,
        nesterov: bool = ShampooConfig.nesterov,
        momentum: float = ShampooConfig.momentum,
        decay_mode: Literal["decoupled", "l2", "independent"] = ShampooConfig.decay_mode,
        factor_dtype: torch.dtype = ShampooConfig.factor_dtype,
        root_dtype: torch.dtype = ShampooConfig.root_dtype,
        averaging: Literal["ema", "schedule_free"] | None = ShampooConfig.averaging,
        averaging_decay: float = ShampooConfig.averaging_decay,
        averaging_beta: float = ShampooConfig.averaging_beta,
        distributed: DistributedConfig | Literal["auto"] | None = "auto",
    ) -> None:
        given = locals()
        if distributed == "auto":
            distributed = DistributedConfig()
        if distributed is not None and not isinstance(distributed, DistributedConfig):
            raise ValueError(
                f'distributed must be "auto", None or a DistributedConfig, got {distributed!r}.'
            )
        self._placements = Placements(distributed)
        self._consolidated = None
        config = ShampooConfig(**{name: given[name] for name in OPTIONS})
        self._kept = {}
        self._skipped = None
        super().__init__(params, {name: getattr(config, name) for name in OPTIONS})

    @classmethod
    def from_config(
        cls,
        params: ParamsT,
        config: ShampooConfig,
        distributed: DistributedConfig | Literal["auto"] | None = "auto",
    ) -> "Shampoo":
        """The optimizer with the options of `config`.

        >>> weight = torch.nn.Parameter(torch.eye(4))
        >>> Shampoo.from_config([weight], ShampooConfig(lr=0.1, method="soap")).defaults["method"]
        'soap'
        """
        options = {name: getattr(config, name) for name in OPTIONS}
        return cls(params, **options, distributed=distributed)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters, whose options default to the constructor's."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            ShampooConfig(**{name: group[name] for name in OPTIONS})
            for parameter in group["params"]:
                if parameter.is_complex():
                    raise ValueError(
                        f"params must be real, got a {parameter.dtype} tensor of shape "
                        f"{tuple(parameter.shape)}."
                    )
        except ValueError:
            self.param_groups.pop()
            raise
        complete(group, self.defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step; a step with a non-finite gradient changes nothing and is counted.

        Args:
          closure: reevaluates the model and returns the loss, as in `torch.optim`.

        Returns:
          What the closure returned, or None.

        Raises:
          RuntimeError: if a gradient is sparse, or if `eval` was called and `train` was not.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        scale = getattr(self, "grad_scale", None)
        if scale is not None:
            unscale([p for group in self.param_groups for p in group["params"]], scale)
        self._consolidated = None
        work = []
        for group in self.param_groups:
            indices = [i for i, p in enumerate(group["params"]) if p.grad is not None and p.numel()]
            joining = self._joining(group, indices)
            if joining:
                layout = self._layout(group, joining)
                work.append(GroupStep(group, layout, indices, self._averager(group)))
        if work:
            flags = [flag for each in work for flag in each.gather()]
            groups = [group for each in work for group in each.layout.groups]
            finite = self._all_finite(flags, list(dict.fromkeys(groups)))
            for each in work:
                each.advance(finite)
        return loss

    def _all_finite(self, flags: list[Tensor], groups: "list[ProcessGroup]") -> Tensor:
        """One boolean for the whole step, on the first flag's device; counts skipped steps.

        It is that of all ranks of the groups.
        """
        finite = flags[0]
        for flag in flags[1:]:
            finite = finite & flag.to(finite.device)
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None:
            finite = finite & (found_inf == 0).to(finite.device)
        finite = all_true(finite, groups)
        if self._skipped is None:
            self._skipped = torch.zeros((), dtype=torch.int64, device=finite.device)
        self._skipped.add_((~finite).to(self._skipped.device))
        return finite

    @torch.no_grad()
    def eval(self) -> None:
        """Puts averages into the weights, where `averaging` keeps them; for evaluation only."""
        for group in self.param_groups:
            averager = self._averager(group)
            if averager is not None:
                averager.eval(map(local, group["params"]), group)

    @torch.no_grad()
    def train(self) -> None:
        """Puts back the weights that `eval` replaced, bit for bit."""
        for group in self.param_groups:
            averager = self._averager(group)
            if averager is not None:
                averager.train(map(local, group["params"]))

    def diagnostics(self) -> dict[str, Any]:
        """How the preconditioners are doing; waits for the device.

        Returns:
          `skipped_steps`: steps with a non-finite gradient.
          `refreshes`, `failed_roots`: inverse roots or eigenbases that were taken over, and that
          could not be trusted and kept their predecessor, over all blocks.
          `residual`, `condition`: the largest of the last refreshes, see `roots.InverseRoots` and
          `eigenbasis.Bases`.
          `state_bytes`, `bytes_sent_per_step`: what this rank keeps of blocks, and sends to others.
          `factors`: the same numbers as above, by parameter and side, of this rank's blocks.
        """
        layouts = [self._kept_of(group).layout for group in self.param_groups]
        factors = description.health(self.param_groups, layouts)
        rows = factors.values()
        return {
            "skipped_steps": self._count_skipped(),
            "refreshes": sum(row["refreshes"] for row in rows),
            "failed_roots": sum(row["failed_roots"] for row in rows),
            "residual": max((row["residual"] for row in rows), default=0.0),
            "condition": max((row["condition"] for row in rows), default=0.0),
            **description.burden(layouts),
            "factors": factors,
        }

    def __repr__(self) -> str:
        """The options, and for every parameter its blocks, or why a diagonal method moves it."""
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            options = ", ".join(f"{name}={group[name]}" for name in OPTIONS)
            lines.append(f"  group {number}: {options}")
            config = StateConfig(**{name: group[name] for name in FIXED})
            lines.extend(f"    {line}" for line in description.lines(group, config))
        return "\n".join([*lines, ")"])
