"""What one step means: its options, the same for a parameter group, and its masks and rates."""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .config import check_captured_lr
from .devices import is_queued, scalar_for

Number = float | Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class StepOptions:
    """The options of one parameter group at one step; see `plan.options.ShampooOptions`.

    Attributes:
      lr: a float or a scalar tensor.
      maximize: whether gradients are negated first.
      fused: whether torch's fused kernel may be used, unless it is False.
      l2: strength of the decay that is added to gradients; 0 unless `decay_mode` is "l2".
      decay: strength of the decay of weights, a factor of the learning rate; 0 for "l2". A
        scalar tensor where it depends on an lr that the host does not know.
      capturable: whether nothing that the host decides may be part of the step.
      refresh_step: the group's step count, from 1.
    """

    lr: Number
    betas: tuple[float, float]
    eps: float
    maximize: bool
    fused: bool | None
    capturable: bool
    l2: float
    decay: Number
    exponent: float | None
    damping: float
    root_solver: str
    basis_solver: str
    nesterov: bool
    momentum: float
    refresh_interval: int
    refresh: str
    overlap: bool
    refresh_step: int

    @classmethod
    def of(cls, group: dict[str, Any], exponent: float | None) -> "StepOptions":
        """The options of a validated parameter group at its next step; notes a higher peak lr.

        Args:
          group: the parameter group.
          exponent: `ShampooConfig.inverse_power`.
        """
        device = group["params"][0].device
        if group["capturable"]:
            check_captured_lr(group["lr"], device)
        lr = scalar_for(group["lr"], device)
        strength, mode = group["weight_decay"], group["decay_mode"]
        decay: Number
        l2, decay = (strength, 0.0) if mode == "l2" else (0.0, strength)
        if mode == "independent":
            decay = _independent_decay(group, lr, strength)
        chosen = {name: group[name] for name in _TAKEN}
        first, second = group["betas"]  # which may be a list that is written to between steps
        step = group["refresh_step"] + 1
        return cls(
            lr=lr,
            betas=(first, second),
            l2=l2,
            decay=decay,
            exponent=exponent,
            refresh_step=step,
            **chosen,
        )

    def decay_fraction(self, taken: Number) -> Number | None:
        """The fraction by which the step shrinks weights, 0 where it is skipped; None for no decay.

        Args:
          taken: 1 if the step is taken, 0 if not; a number or a scalar.
        """
        if not isinstance(self.decay, Tensor) and self.decay == 0:
            return None
        return taken * (self.lr * self.decay)


# The fields that are options of a parameter group as they are.
_TAKEN = tuple(
    field.name
    for field in dataclasses.fields(StepOptions)
    if field.name not in ("lr", "betas", "l2", "decay", "exponent", "refresh_step")
)


def _independent_decay(group: dict[str, Any], lr: Number, strength: float) -> Number:
    """The decay as a fraction of the peak lr so far, which is on the device where the lr is."""
    peak, known = group["peak_lr"], group.get("max_lr", 0.0)  # max_lr: OneCycleLR's
    if isinstance(lr, Tensor) and is_queued(lr.device):
        highest = group["peak_lr"] = lr.clamp_min(known).clamp_min(peak)
        # As long as all lr are 0, so is what the decay is multiplied with.
        return strength / highest.clamp_min(torch.finfo(highest.dtype).tiny)
    peak = group["peak_lr"] = max(float(peak), known, float(lr))
    return strength / peak if peak > 0 else 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Rates:
    """Weights, bias corrections and the learning rate of one step.

    Numbers where the host knows them, else tensors, either scalars or [N, 1, 1] per block of a
    stack; all broadcast to [N, m, n].

    Attributes:
      taken: 1 for blocks that take the step, 0 for others.
      shares: 1 - beta of the first and second moment; 0 for blocks that take no step.
      decays: EMA weights of the old moments; 1 for blocks that take no step.
      rate: the learning rate; 0 for blocks that take no step.
      corrected: computes `corrections`, which not every method needs.
      is_uniform: whether they are the same for all blocks.
    """

    taken: Number
    shares: tuple[Number, Number]
    decays: tuple[Number, Number]
    rate: Number
    corrected: Callable[[], tuple[Number, Number]]
    is_uniform: bool

    @property
    def are_known(self) -> bool:
        """Whether the host knows them."""
        return not isinstance(self.taken, Tensor)

    @cached_property
    def corrections(self) -> tuple[Number, Number]:
        """1 - beta**t for both betas, t being the gradients averaged so far."""
        return self.corrected()


class StepInfo(NamedTuple):
    """Masks, counters and rates of one step, per block of a stack.

    Attributes:
      live: booleans, whether a block takes the step; a scalar or [N, 1, 1].
      steps: gradients averaged so far, [N, 1, 1].
      fresh_blocks: the ranges of blocks that get their first gradient, known to the host.
      rates: see `Rates`.
    """

    live: Tensor
    steps: Tensor
    fresh_blocks: tuple[slice, ...]
    rates: Rates
