"""The two optimizers, what they decay, and the learning rate at every step."""

import bisect
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from submission.algoperf_api.schedules import WarmupCosine
from submission.shampoo import Shampoo, ShampooConfig

if TYPE_CHECKING:
    from scripts.imagenet.config import Config

METHODS = ("shampoo", "sgd")
_SGD_OPTIONS = ("momentum", "dampening", "nesterov", "weight_decay")
# JSON has no dtypes, and averaged weights would need batch statistics of their own.
_SHAMPOO_OPTIONS = tuple(
    field.name
    for field in dataclasses.fields(ShampooConfig)
    if not field.name.startswith("averaging") and not field.name.endswith("dtype")
)


def check_method(optimizer: Mapping[str, Any], lr: float) -> None:
    """Raises ValueError, naming `optimizer` and the key, for what neither optimizer can be."""
    options = dict(optimizer)
    name = options.pop("name", None)
    if name not in METHODS:
        allowed = ", ".join(METHODS)
        raise ValueError(f"optimizer.name must be one of {allowed}, got {name!r}")
    known = _SGD_OPTIONS if name == "sgd" else _SHAMPOO_OPTIONS
    for key in options:
        if key == "lr":
            raise ValueError("optimizer.lr is the key lr of the whole")
        if key not in known:
            raise ValueError(f"optimizer.{key} is no option of {name}: {', '.join(known)}")
    try:
        _construct(name, [nn.Parameter(torch.zeros(1))], lr, options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"optimizer: {error}") from error


def _construct(
    name: str, parameters: list[Any], lr: float, options: Mapping[str, Any]
) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, **options)
    return Shampoo(parameters, lr=lr, **options)


def build(config: "Config", model: nn.Module) -> torch.optim.Optimizer:
    """The configured optimizer of a model's parameters, at the peak learning rate."""
    options = dict(config.optimizer)
    name = options.pop("name")
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": [p for p in model.parameters() if p.ndim > 1]}]
    groups.append({"params": vectors} | ({} if config.decay_vectors else {"weight_decay": 0.0}))
    return _construct(name, groups, config.lr, options)


def lr_factor(config: "Config", step: int, steps_per_epoch: int) -> float:
    """Fraction of the peak learning rate at a step counted from 0."""
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    if config.decay == "cosine" or step < warmup_steps:
        return WarmupCosine(warmup_steps, config.epochs * steps_per_epoch)(step)
    passed = bisect.bisect_right(config.milestones, step / steps_per_epoch)
    return float(10.0**-passed)
