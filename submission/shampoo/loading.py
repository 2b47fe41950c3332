"""What a loaded state dict may hold: this optimizer's state, AdamW's, and nothing broken."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..plan.options import FORMER_SOLVERS, check, is_integer
from .averaging import STATE_NAMES
from .config import OPTIONS, check_adamw_arguments
from .devices import is_true
from .factor import REFRESHES
from .parameter_state import is_saved_name
from .placement import Placements, all_true, is_dtensor, whole

_CPU = torch.device("cpu")
# Of AdamW's groups, what has the same meaning here; and what schedulers leave there.
_SHARED = (
    *("params", "param_names", "lr", "betas", "eps", "weight_decay", "maximize"),
    *("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"),
)
_NOT_NEGATIVE = ("step", "exp_avg_sq", "basis_sq", "factor_weight", "weight_sum")


def with_options(
    state_dict: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A state dict whose groups are of this optimizer; those of AdamW or Adam get the live options.

    They keep what both have: lr, betas, eps, weight_decay and maximize. Adam's decay becomes "l2".
    A root solver that is gone becomes the one that has replaced it.

    Args:
      state_dict: as `load_state_dict` takes it.
      groups: the live parameter groups.

    Raises:
      ValueError: if a group has options that this optimizer cannot follow.
    """
    saved = [
        _renamed(group) if "method" in group else _from_adamw(group, live)
        for group, live in zip(state_dict["param_groups"], groups, strict=False)
    ]
    return {**state_dict, "param_groups": saved + state_dict["param_groups"][len(saved) :]}


def _renamed(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    return (
        {**saved, "root_solver": "products"}
        if saved.get("root_solver") in FORMER_SOLVERS
        else saved
    )


def _from_adamw(saved: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    if not {"lr", "betas", "eps", "weight_decay"} <= saved.keys():
        known = ", ".join(name for name in saved if name not in ("params", "param_names"))
        raise ValueError(
            f"state_dict: a group has {known or 'no options'}, so it is not that of Shampoo or "
            "AdamW."
        )
    check(not saved.get("amsgrad"), "amsgrad of state_dict", saved.get("amsgrad"), "False")
    group = {name: live[name] for name in OPTIONS}
    group |= {name: saved[name] for name in _SHARED if name in saved}
    if not saved.get("decoupled_weight_decay", True) and group["weight_decay"]:
        group["decay_mode"] = "l2"
    return group


def check_group(
    group: dict[str, Any], state: Mapping[Tensor, Mapping[str, Any]], placements: Placements
) -> None:
    """Checks what a loaded state dict says of a parameter group as a whole.

    Args:
      group: the live group, with what was loaded.
      state: what was loaded, by parameter.
      placements: tells which ranks load together.

    Raises:
      ValueError: for counters that no step leaves behind, or if the weights are averages and those
        that training moves are missing on any rank: `torch.distributed.checkpoint` loads into what
        a new optimizer has, and "full" state beyond that on rank 0 alone.
    """
    evaluates, group["evaluates"] = group["evaluates"], False
    if evaluates and not _has_trained_weights(group["params"], state, placements):
        raise ValueError(
            "state_dict: saved between eval() and train(), without the weights that training "
            "moves; call train() before saving."
        )
    check_adamw_arguments(group)
    for name in ("refresh_step", "skipped_steps"):
        value = group[name]
        check(is_integer(value) and value >= 0, f"{name} of state_dict", value, "an integer >= 0")
    peak = group["peak_lr"]
    is_valid = isinstance(peak, (int, float)) and math.isfinite(peak) and peak >= 0
    check(is_valid, "peak_lr of state_dict", peak, "a finite number >= 0")


def _has_trained_weights(
    parameters: Sequence[Tensor],
    state: Mapping[Tensor, Mapping[str, Any]],
    placements: Placements,
) -> bool:
    """Whether all averages come with what training moves, on all ranks that load together."""
    averaged = [state[p] for p in parameters if state.get(p, {}).keys() & set(STATE_NAMES)]
    complete = all("train_weight" in entry for entry in averaged)
    groups = placements.collective_groups(parameters)
    if not groups:
        return complete
    flag = torch.tensor(complete, device=parameters[0].device)
    return is_true(all_true(flag, groups), otherwise=complete)


def entries(
    state_dict: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]
) -> defaultdict[Tensor, dict[str, Any]]:
    """The state by parameter as `checkpoint.save` writes it; a collective if it has DTensors.

    Args:
      state_dict: as `load_state_dict` takes it; its groups fit `groups`.
      groups: the live parameter groups.

    Raises:
      ValueError: if a value is one that no step leaves behind: not finite, negative where that is
        impossible, or moments without their step count.
    """
    saved = [index for group in state_dict["param_groups"] for index in group["params"]]
    parameters = [parameter for group in groups for parameter in group["params"]]
    state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
    for index, parameter in zip(saved, parameters, strict=True):
        if index in state_dict["state"]:
            state[parameter] = _entry(state_dict["state"][index], parameter)
    return state


def _entry(entry: Mapping[str, Any], parameter: Tensor) -> dict[str, Any]:
    """One parameter's state.

    `torch.distributed.checkpoint` takes a name with a point, "left.0", for that of a dict in a dict
    when it has flattened them.
    """
    flat: dict[str, Any] = {}
    for name, value in sorted(entry.items()):  # on all ranks in the same order
        if isinstance(value, Mapping) and all(str(number).isdigit() for number in value):
            flat.update(
                {f"{name}.{number}": _complete(rows) for number, rows in sorted(value.items())}
            )
        else:
            flat[name] = _complete(value)
    if isinstance(flat.get("step"), (int, float)):  # as early versions of torch saved it
        flat["step"] = torch.tensor(float(flat["step"]))
    for name, value in flat.items():
        if is_saved_name(name) or name in STATE_NAMES:
            _check_value(name, value, parameter)
    orphans = [name for name in flat if is_saved_name(name)]
    if orphans and "step" not in flat:
        raise ValueError(
            f"state_dict: the state of {_of(parameter)} has {', '.join(orphans)} but no step, "
            "so it is not that of Shampoo or AdamW."
        )
    return flat


def is_of_adam(entry: Iterable[str]) -> bool:
    """Whether an entry is AdamW's: moments and no factors."""
    has_factors = any("." in name and is_saved_name(name) for name in entry)
    return "exp_avg_sq" in entry and not has_factors


def _complete(value: Any) -> Any:
    """A value whole, and free of inference mode, in which steps could not change it."""
    if not isinstance(value, Tensor):
        return value
    value = whole(value).to(_CPU) if is_dtensor(value) else value
    return value.clone() if value.is_inference() else value


def _check_value(name: str, value: Any, parameter: Tensor) -> None:
    if not isinstance(value, Tensor) or not value.numel():
        return  # its shape is checked where it is read
    kind = name.partition(".")[0]
    is_health = kind.endswith("_health")
    checked = value[..., REFRESHES:] if is_health else value  # a condition number may be infinite
    wrong = ~checked.isfinite()
    what = "finite"
    if kind in _NOT_NEGATIVE or is_health:
        wrong, what = wrong | (checked < 0), "finite and not negative"
    if is_true(wrong.any(), otherwise=False):
        raise ValueError(
            f"state_dict: {name!r} of {_of(parameter)} must be {what}, got {int(wrong.sum()):,} of "
            f"{checked.numel():,} values that are not, {checked[wrong][0].item()!r} for one."
        )


def _of(parameter: Tensor) -> str:
    return f"the parameter of shape {tuple(parameter.shape)}"
