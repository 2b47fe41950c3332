"""Distributed Shampoo as a `torch.optim.Optimizer`: options, the order of a step, checkpoints.

Read `plan/reference.py` first: it is the algorithm, for one block at a time. The order of a step:

1. gradients G enter stacks of equal blocks (`GroupState.take_gradients`);
2. L <- b L + (1-b) G G^T and R <- b R + (1-b) G^T G (`Segment.update_factors`);
3. the L^(-1/p) and R^(-1/p), or eigenbases, that are due (`Refresher.refresh`);
4. M <- b M + (1-b) G, S = L^(-1/p) M R^(-1/p), then ||D|| / ||S|| S with the diagonal method's D,
   momentum, lr (`Segment.compute_updates`);
5. W <- (1 - lr decay) W - update (`Distributor.apply_updates`).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..plan import options
from ..plan.blocking import plan_parameter
from . import agreement, description, loading
from .averager import Averager
from .config import (
    BEFORE_STACKS,
    OPTIONS,
    DistributedConfig,
    ShampooConfig,
    check_adamw_arguments,
    check_captured_lr,
    complete,
    leaves_refreshes,
)
from .devices import is_capturing
from .diagnostics import Diagnostics, diagnostics
from .execution import in_full_precision
from .group_state import GroupState
from .parameters import check_parameters, warn_of_meta
from .placement import Placements
from .skipped import SkippedSteps
from .states import GroupStates, ensure_averager


class Shampoo(torch.optim.Optimizer):
    """Shampoo, SOAP and KL-Shampoo (Gupta et al. 2018; Vyas et al. 2024; Lin et al. 2025).

    Matrices are preconditioned block by block. Shampoo's steps take the length of AdamW's, and the
    other methods' steps have it by themselves, so that AdamW's learning rate carries over; vectors,
    scalars and embedding tables take AdamW's step. All blocks of one shape advance together, and
    the host does not wait for the device. `state` shows the stacks' rows by parameter, see
    `parameter_state.ParameterState`.

    Every option may also be given per parameter group. All but those of `StateConfig` itself may
    change between steps, on all ranks alike, which only the first step compares; after a change of
    one of `BlockingConfig` moments and counters stay and factors begin anew. `ShampooConfig`
    documents each option; `presets` has proven combinations.

    As in `torch.optim`, state belongs to a parameter: lists of parameters may change between steps,
    a parameter whose entry is removed from `state` begins anew, and one of another dtype or on
    another device takes its state along. A parameter of another shape is refused.

    Args:
      params: parameters, named parameters or parameter groups, as for any torch optimizer.
      lr, betas, eps, weight_decay: as in `torch.optim.AdamW`; `betas[1]` also averages factors.
      method, block_size and all others: see `ShampooConfig`.
      foreach: without effect; blocks of one shape always advance together.
      capturable: whether a graph may capture `step`; see `refresh`. The lr must be a tensor.
      differentiable, amsgrad: arguments of `torch.optim.AdamW`; True is refused.
      distributed: how work and state are divided among ranks. "auto" divides them among all ranks
        where there is a process group, and follows the mesh of parameters that are DTensors; every
        rank must then call `step`. None keeps all state and work on every rank.

    Raises:
      ValueError: for an option out of range or one that does not fit, or a parameter that is
        complex, flattened or, in a lazy module, without a shape as yet, or cut among ranks where
        `distributed` is None.

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
        method: options.Method = ShampooConfig.method,
        block_size: int = ShampooConfig.block_size,
        block_aspect: float = ShampooConfig.block_aspect,
        matrix_dims: options.MatrixDims = ShampooConfig.matrix_dims,
        split: tuple[int, ...] | None = ShampooConfig.split,
        table: bool | Literal["auto"] = ShampooConfig.table,
        max_dim: int = ShampooConfig.max_dim,
        table_aspect: float = ShampooConfig.table_aspect,
        oversize: options.Oversize = ShampooConfig.oversize,
        max_aspect: float = ShampooConfig.max_aspect,
        refresh_interval: int = ShampooConfig.refresh_interval,
        refresh: options.Refresh = ShampooConfig.refresh,
        overlap: bool = ShampooConfig.overlap,
        exponent: float | Literal["auto"] | None = ShampooConfig.exponent,
        damping: float = ShampooConfig.damping,
        root_solver: options.RootSolver = ShampooConfig.root_solver,
        basis_solver: options.BasisSolver = ShampooConfig.basis_solver,
        grafting: options.Grafting | Literal["auto"] | None = ShampooConfig.grafting,
        nesterov: bool = ShampooConfig.nesterov,
        momentum: float = ShampooConfig.momentum,
        decay_mode: options.DecayMode = ShampooConfig.decay_mode,
        factor_dtype: torch.dtype = ShampooConfig.factor_dtype,
        root_dtype: torch.dtype = ShampooConfig.root_dtype,
        averaging: options.Averaging | None = ShampooConfig.averaging,
        averaging_share: float = ShampooConfig.averaging_share,
        averaging_decay: float | None = ShampooConfig.averaging_decay,
        averaging_beta: float = ShampooConfig.averaging_beta,
        maximize: bool = ShampooConfig.maximize,
        fused: bool | None = ShampooConfig.fused,
        foreach: bool | None = None,
        capturable: bool = ShampooConfig.capturable,
        differentiable: bool = False,
        amsgrad: bool = False,
        distributed: DistributedConfig | Literal["auto"] | None = "auto",
    ) -> None:
        given = locals()
        self._placements = Placements(distributed)
        self._states = GroupStates(self._placements)
        self._skipped = SkippedSteps()
        check_adamw_arguments(given)
        config = ShampooConfig(**{name: given[name] for name in OPTIONS})
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
        values = {name: getattr(config, name) for name in OPTIONS}
        return cls(params, **values, distributed=distributed)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters, whose options default to the constructor's."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            check_adamw_arguments(group)
            config = ShampooConfig(**{name: group[name] for name in OPTIONS})
            if config.capturable and group["params"]:
                check_captured_lr(group["lr"], group["params"][0].device)
            check_parameters(group)
            for parameter in group["params"]:
                self._placements.check(parameter)
                plan_parameter(parameter.shape, config)
        except ValueError:
            self.param_groups.pop()
            raise
        complete(group, self.defaults)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether `torch.amp.GradScaler` leaves it to `step` to unscale gradients and to skip."""
        return any(group["fused"] for group in self.param_groups)

    @torch._disable_dynamo  # as in torch.optim; a compiled caller runs it as it is
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step; a step with a non-finite gradient changes nothing and is counted.

        Args:
          closure: reevaluates the model and returns the loss, as in `torch.optim`.

        Returns:
          What the closure returned, or None.

        Raises:
          RuntimeError: if a gradient is sparse, if `eval` was called and `train` was not, if the
            shape of a parameter has changed, or at the first step if ranks that share the work
            differ in options, parameters, their values, which gradients there are or loaded state.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step()
        if leaves_refreshes(self.param_groups):
            devices = {p.device for group in self.param_groups for p in group["params"][:1]}
            if not any(map(is_capturing, devices)):
                self.refresh()
        return loss

    @in_full_precision
    def _step(self) -> None:
        """A step of all groups, which take it or skip it together."""
        scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        active = self._states.active(self.param_groups, self.state)
        agreement.verify(self.param_groups, list(self._states), self._placements.config)
        for group, state, indices in active:
            state.begin(group, indices, scale)
        if not any(indices for _, _, indices in active):
            warn_of_meta(self.param_groups)
        if not active:
            return
        states = [state for _, state, _ in active]
        flags = [flag for state in states for flag in state.take_gradients()]
        ranks = [process_group for state in states for process_group in state.process_groups]
        finite = self._skipped.all_finite(flags, found_inf, ranks)
        # The host then reads the flag, and counters and norms, in place of masking what they say.
        is_known = not leaves_refreshes(self.param_groups) and all(
            state.is_on_host for state in states
        )
        for state in states:
            if is_known and not finite:
                state.skip()
            else:
                state.apply(finite, is_known)

    @torch._disable_dynamo
    @in_full_precision
    def refresh(self) -> None:
        """Counts a step and refreshes the roots and bases that are due, with `capturable` alone.

        Call it after every replay of a captured step; a step outside of a graph calls it by itself.
        Roots and bases are those of the last step's factors, and used from the next step on.
        """
        if not leaves_refreshes(self.param_groups):
            raise RuntimeError("refresh() is for capturable=True; without it step() refreshes.")
        for group, state in zip(self.param_groups, self._group_states(), strict=True):
            state.refresh(group)

    def _group_states(self) -> Sequence[GroupState]:
        return self._states.of(self.param_groups, self.state)

    def _averagers(self) -> Iterator[tuple[dict[str, Any], Averager]]:
        """The groups that have averages of their weights."""
        for group, state in zip(self.param_groups, self._group_states(), strict=True):
            averager = ensure_averager(state, group, self.state)
            if averager is not None:
                yield group, averager

    @property
    def evaluates(self) -> bool:
        """Whether the weights are averages, between `eval` and `train`."""
        return not all(averager.training for _, averager in self._averagers())

    @in_full_precision
    def eval(self) -> None:
        """Puts averages into the weights, where `averaging` keeps them; for evaluation only."""
        for group, averager in self._averagers():
            averager.eval(map(averager.shard, group["params"]), group)

    @in_full_precision
    def train(self) -> None:
        """Puts back the weights that `eval` replaced, bit for bit."""
        for group, averager in self._averagers():
            averager.train(map(averager.shard, group["params"]))

    def finish(self) -> None:
        """Waits for refreshes that run beside training, as the next step would."""
        for state in self._states:
            state.finish()

    @in_full_precision
    def consolidate_state_dict(self, to: int | None = 0) -> None:
        """Brings the state of all ranks together; a collective that every rank must call.

        Afterwards, and until the next step, `state_dict` works on rank `to` without communication,
        as in `torch.distributed.optim.ZeroRedundancyOptimizer`. On one device it does nothing.

        Args:
          to: a rank of the default process group; None for all of them, which is what
            `torch.distributed.checkpoint` needs.

        Raises:
          ValueError: if `to` is no rank.
        """
        self._states.consolidate(self.param_groups, self.state, to)

    def state_dict(self) -> dict[str, Any]:
        """State by parameter, in plain tensors, numbers and strings.

        It does not depend on how blocks were stacked or on how many ranks own them.

        A collective where parameters are DTensors, whose state is of DTensors too, or where
        `DistributedConfig.collective_state_dict` says so.

        Raises:
          RuntimeError: if other ranks own some of the state and have not been asked for it, or
            another one was given it, see `consolidate_state_dict`.
        """
        self._skipped.count(self.param_groups)

        def fill(_: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
            self._states.fill(saved, self.param_groups, self._complete_state())

        # Not by replacing `state`: a trainer's wrapper, as which this may run, would keep it.
        hook = self.register_state_dict_post_hook(fill, prepend=True)
        try:
            return super().state_dict()
        finally:
            hook.remove()

    @in_full_precision
    def _complete_state(self) -> defaultdict[Tensor, dict[str, Any]]:
        """Of all ranks, by parameter."""
        return self._states.complete(self.param_groups, self.state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what `state_dict` returned; options come from it too, as in `torch.optim`.

        Every rank loads the complete state and keeps the blocks it owns, whatever number of ranks
        it was saved by. State of `torch.optim.AdamW` is taken too: its moments, step counts, lr,
        betas, eps and decay go on, factors begin anew. A collective where `state_dict` is one.

        Raises:
          ValueError: if the state does not fit the parameters or has values that no step leaves
            behind, such as NaN; nothing has changed then.
        """
        previous = dict(self.__dict__)
        loaded: dict[str, Any] = {}

        def note(_: torch.optim.Optimizer, final: dict[str, Any]) -> dict[str, Any]:
            loaded.update(loading.with_options(final, self.param_groups))
            return loaded

        hooks = [
            self.register_load_state_dict_pre_hook(note),
            self.register_load_state_dict_post_hook(lambda _: self._load(loaded), prepend=True),
        ]
        try:
            with torch.inference_mode(mode=False):
                super().load_state_dict(state_dict)
        except BaseException:
            self.__dict__.update(previous)
            raise
        finally:
            for hook in hooks:
                hook.remove()

    @in_full_precision
    def _load(self, state_dict: dict[str, Any]) -> None:
        """Loads the state of `state_dict`, as hooks have left it, once torch has read the rest."""
        # torch casts state to the parameter's dtype; bf16 weights must keep float32 state.
        self.state = loading.entries(state_dict, self.param_groups)
        self._states = GroupStates(self._placements)
        self._states.load(self.param_groups, self.state)

    def __getstate__(self) -> dict[str, Any]:
        self._skipped.count(self.param_groups)
        placements = Placements(self._placements.config)
        return {
            **super().__getstate__(),
            "state": self._complete_state(),
            "_placements": placements,
        }

    def __setstate__(self, saved: dict[str, Any]) -> None:
        super().__setstate__(saved)
        self.__dict__.setdefault("_placements", Placements(DistributedConfig()))
        self._states, self._skipped = GroupStates(self._placements), SkippedSteps()
        for group in self.param_groups:  # of an earlier version, which may have had fewer options
            complete(group, {**self.defaults, **BEFORE_STACKS})

    def diagnostics(self) -> Diagnostics:
        """Health of the preconditioners and size of the state; waits for the device.

        >>> optimizer = Shampoo([torch.nn.Parameter(torch.eye(4))])
        >>> optimizer.diagnostics().scalars()["skipped_steps"]
        0.0
        """
        stacks = [state.stacks for state in self._group_states()]
        skipped = self._skipped.count(self.param_groups)
        return diagnostics(skipped, self.param_groups, stacks)

    def __repr__(self) -> str:
        """Options as resolved, each parameter's blocks or why it has none, and totals."""
        lines = description.text(self.param_groups)
        return "\n".join([f"{type(self).__name__} (", *lines, ")"])
