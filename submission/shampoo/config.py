"""The options of `plan.options` with what only torch has: dtypes, tensors and process groups."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from ..plan import options
from ..plan.options import (
    ShampooOptions,
    StateOptions,
    check,
    check_choice,
    is_integer,
)

STATE_DTYPES = (torch.float32, torch.bfloat16)


def check_lr(lr: Any, waits: bool = True) -> None:
    """Checks a learning rate.

    Args:
      lr: what `ShampooConfig.lr` is to be.
      waits: whether the host may wait for a device to read a tensor's value.

    Raises:
      ValueError: if it is no finite number >= 0, or no tensor with one.
    """
    if isinstance(lr, Tensor):
        check(lr.numel() == 1, "lr", tuple(lr.shape), "a number or a tensor of one element")
        lr = lr.item() if waits or lr.device.type == "cpu" else 0.0
    options.check_lr(lr)


# Of torch's AdamW, with the reason why they cannot be True.
_ADAMW_ARGUMENTS = {
    "differentiable": "a step works in place and without gradients",
    "amsgrad": "factors are averages and have no running maximum",
}


# What a captured step cannot have, with the reason.
_CAPTURABLE: dict[str, tuple[tuple[Any, ...], str]] = {
    "overlap": ((False,), "refresh() is outside of the step already"),
    "factor_dtype": ((torch.float32,), "rounding takes its seed from the host"),
    "averaging": ((None,), "averages have counters in new memory at every step"),
    "decay_mode": (("decoupled", "l2"), "the host keeps the highest lr"),
}


def check_capturable(options: Mapping[str, Any]) -> None:
    """Checks the options that `capturable=True` goes together with.

    Raises:
      ValueError: for a value that a captured step cannot have, with the reason.
    """
    for name, (allowed, reason) in _CAPTURABLE.items():
        if options[name] not in allowed:
            raise ValueError(
                f"capturable=True needs {name}={' or '.join(map(repr, allowed))}, "
                f"got {options[name]!r}: {reason}."
            )


def leaves_refreshes(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether steps leave refreshes to `Shampoo.refresh`, the option "capturable".

    Raises:
      ValueError: if those of some groups do and those of others do not.
    """
    chosen = {group["capturable"] for group in groups}
    if len(chosen) > 1:
        raise ValueError("capturable must be the same in all parameter groups.")
    return True in chosen


def check_captured_lr(lr: Any, device: torch.device) -> None:
    """Raises ValueError for an lr whose value a captured step would keep for ever."""
    if not isinstance(lr, Tensor) or lr.device != device:
        place = f"a tensor on {lr.device}" if isinstance(lr, Tensor) else repr(lr)
        raise ValueError(
            f"capturable=True needs an lr that is a tensor on {device}, where its parameters are, "
            f"got {place}: a captured step would keep its value for ever."
        )


def check_adamw_arguments(arguments: Mapping[str, Any]) -> None:
    """Checks arguments of torch's AdamW that are no options; others are not looked at.

    Raises:
      ValueError: for a value without a meaning here, with the reason.
    """
    for name, reason in _ADAMW_ARGUMENTS.items():
        value = arguments.get(name)
        if value not in (None, False):
            raise ValueError(f"{name} must be False or None, got {value!r}: {reason}.")


@dataclasses.dataclass(frozen=True)
class StateConfig(StateOptions):
    """`StateOptions` with torch's dtypes; fixed for a parameter group once it has taken a step.

    Raises:
      ValueError: if a value is out of range; the message names it.
    """

    STATE_DTYPES: ClassVar[tuple[torch.dtype, ...]] = STATE_DTYPES

    factor_dtype: torch.dtype = torch.float32
    root_dtype: torch.dtype = torch.float32


@dataclasses.dataclass(frozen=True)
class ShampooConfig(StateConfig, ShampooOptions):
    """All hyperparameters of one parameter group, see `StateOptions` and `ShampooOptions`.

    Attributes:
      lr: learning rate, a float or a one-element tensor; read at every step.
      maximize: ascends.
      fused: torch's fused kernel for the AdamW steps of vectors and tables: None where it can, not
        with False. With True a `torch.amp.GradScaler` also leaves it to the step to unscale
        gradients and to skip, for which the host needs not wait; trainers refuse to clip gradients
        then, as with torch's fused AdamW.
      capturable: whether `step` may be captured in a graph: it then runs the same kernels on the
        same memory every time, and `Shampoo.refresh` does what the host decides.

    Raises:
      ValueError: if a value is out of range; the message names it.

    >>> ShampooConfig(method="soap").graft is None
    True
    """

    lr: float | Tensor = 1e-3
    maximize: bool = False
    fused: bool | None = None
    capturable: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check(isinstance(self.maximize, bool), "maximize", self.maximize, "a boolean")
        check_choice("fused", self.fused, (None, True, False))
        check(isinstance(self.capturable, bool), "capturable", self.capturable, "a boolean")
        if self.capturable:
            check_capturable(vars(self))

    def _check_lr(self) -> None:
        check_lr(self.lr)


# What versions without these options did, so that their checkpoints go on with the same blocks.
BEFORE_STACKS = {"matrix_dims": "convolution", "split": None, "table": "auto", "table_aspect": 1.0}

# Names of the options of a parameter group, and of those that are fixed after its first step.
OPTIONS = tuple(field.name for field in dataclasses.fields(ShampooConfig))
FIXED = tuple(field.name for field in dataclasses.fields(StateConfig))
# Those that are dtypes; `torch.distributed.checkpoint` takes their names alone.
DTYPES = ("factor_dtype", "root_dtype")


def complete(group: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Adds missing options and counters to a parameter group, and reads names of dtypes."""
    for name in OPTIONS:
        group.setdefault(name, defaults.get(name, getattr(ShampooConfig, name)))
    for name in DTYPES:
        if isinstance(group[name], str):  # of a checkpoint
            group[name] = getattr(torch, group[name], group[name])
    group.setdefault("evaluates", False)  # torch flattens, of a checkpoint, what a live group has
    group.setdefault("refresh_step", 0)
    group.setdefault("skipped_steps", 0)
    group.setdefault("peak_lr", float(group["lr"]))


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype in checkpoints.

    >>> dtype_name(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the state of parameters of a dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def factor_dtypes(config: StateConfig, dtype: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
    """The dtypes of factors and of what is derived from them; float64 state is float64 throughout.

    >>> factor_dtypes(StateConfig(root_dtype=torch.bfloat16), torch.float32)
    (torch.float32, torch.bfloat16)
    """
    if dtype == torch.float64:
        return dtype, dtype
    return config.factor_dtype, config.root_dtype


def parameter_names(group: Mapping[str, Any]) -> list[str]:
    """The names of a group's parameters where they are known, else their numbers."""
    known = group.get("param_names") or ()
    count = len(group["params"])
    return [*known[:count], *(f"param {number}" for number in range(len(known), count))]


def check_saved(value: Any, name: str, shape: Sequence[int], parameter: Tensor) -> Tensor:
    """A value from a checkpoint, if it is a tensor of the expected shape.

    Args:
      value: the state of `parameter` under `name`, None where it is missing.
      shape: the expected one.

    Raises:
      ValueError: if it is anything else.
    """
    if not isinstance(value, Tensor) or tuple(value.shape) != tuple(shape):
        given = tuple(value.shape) if isinstance(value, Tensor) else value
        raise ValueError(
            f"state_dict: {name!r} of the parameter of shape {tuple(parameter.shape)} must be a "
            f"tensor of shape {tuple(shape)}, got {given}."
        )
    return value


@dataclasses.dataclass(frozen=True)
class DistributedConfig:
    """How state and work are divided among the ranks of `torch.distributed`.

    Every block has one owner, which holds its state and computes its update (Rajbhandari et al.
    2020, arXiv:1910.02054); what an owner computes goes to the ranks that hold the weights.

    Attributes:
      group: the ranks that hold replicas of parameters that are no DTensors, as under
        `DistributedDataParallel`; None for all. DTensors bring their own mesh.
      communication_dtype: of gradients and updates on their way, float32 or bfloat16.
      communicate: owners of replicated parameters send "updates", or "parameters", which are
        smaller where those are bfloat16 and updates float32. Sharded parameters take updates.
      group_size: divides blocks among so many neighbouring ranks, each such group doing all the
        work: no traffic between nodes, at the price of more state. For sharded parameters with
        replicas, the number of shards. None divides them among all.
      buckets: in how many pieces updates are sent, each as soon as it is computed.
      collective_state_dict: every rank calls `state_dict`, which then brings together the state of
        replicated parameters by itself; for `torch.distributed.checkpoint`. Where all parameters
        are DTensors that is always so.

    Raises:
      ValueError: if a value is out of range; the message names it.

    >>> DistributedConfig(communication_dtype=torch.bfloat16).communicate
    'updates'
    """

    group: "ProcessGroup | None" = None
    communication_dtype: torch.dtype = torch.float32
    communicate: Literal["updates", "parameters"] = "updates"
    group_size: int | None = None
    buckets: int = 4
    collective_state_dict: bool = False

    def __post_init__(self) -> None:
        check(
            self.group is None or isinstance(self.group, ProcessGroup),
            "group",
            self.group,
            "None or a process group that this rank belongs to",
        )
        check_choice("communication_dtype", self.communication_dtype, STATE_DTYPES)
        check_choice("communicate", self.communicate, ("updates", "parameters"))
        size = self.group_size
        check(
            size is None or (is_integer(size) and size >= 1),
            "group_size",
            size,
            "None or an integer >= 1",
        )
        check(
            is_integer(self.buckets) and self.buckets >= 1,
            "buckets",
            self.buckets,
            "an integer >= 1",
        )
        collective = self.collective_state_dict
        check(isinstance(collective, bool), "collective_state_dict", collective, "a boolean")
