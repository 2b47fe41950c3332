"""The recipe of a run: a JSON file, its optimizer, and the learning rate at every step."""

import bisect
import dataclasses
import itertools
import json
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common import files
from common.cli import UserError
from submission.algoperf_api.schedules import WarmupCosine
from submission.shampoo import Shampoo, ShampooConfig

CONFIGS = Path(__file__).parent / "configs"
_OPTIONS = {
    "sgd": ("momentum", "dampening", "nesterov", "weight_decay"),
    # JSON has no dtypes, and averaged weights would need batch statistics of their own.
    "shampoo": tuple(
        field.name
        for field in dataclasses.fields(ShampooConfig)
        if not field.name.startswith("averaging") and not field.name.endswith("dtype")
    ),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """One run's recipe; docs/imagenet.md gives the sources of the shipped ones.

    Attributes:
      optimizer: `name`, "shampoo" or "sgd", and the options that it is constructed with.
      epochs: passes over the training images.
      batch_size: images per step, over all GPUs.
      lr: the learning rate's peak.
      warmup_epochs: it rises linearly for so long, from the first step on.
      decay: then falls as half a "cosine" to 0, or by a "step" to a tenth at each milestone.
      milestones: epochs of those steps.
      label_smoothing: weight of the uniform distribution in the training targets.
      decay_vectors: whether biases and the normalisation's parameters decay as well.
      precision: "float32", "bfloat16" or "float16": of activations and of the products in the
        network, under autocast. Weights, gradients and the optimizer's state are float32.
      depths: residual blocks of the four stages.
      width: channels of the stem.
      classes: labels.
      image_size: edge of a training and of a validation image, in pixels.

    Raises:
      ValueError: if a value is out of range; the message names the key.
    """

    optimizer: Mapping[str, Any]
    epochs: int
    batch_size: int
    lr: float
    warmup_epochs: float
    decay: str
    label_smoothing: float
    decay_vectors: bool
    precision: str
    milestones: tuple[float, ...] = ()
    depths: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    classes: int = 1000
    image_size: int = 224

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 1, "width": 1, "classes": 2, "image_size": 32}
        for name, value in least.items():
            self._check(name, _is_integer(getattr(self, name), value), f"an integer >= {value}")
        self._check("lr", _is_number(self.lr) and 0 < self.lr < float("inf"), "a finite number > 0")
        for name, end in (("warmup_epochs", self.epochs), ("label_smoothing", 1)):
            value = getattr(self, name)
            self._check(name, _is_number(value) and 0 <= value < end, f"a number in [0, {end})")
        self._check("decay_vectors", isinstance(self.decay_vectors, bool), "true or false")
        for name, *allowed in (
            ("decay", "cosine", "step"),
            ("precision", "float32", "bfloat16", "float16"),
        ):
            self._check(name, getattr(self, name) in allowed, f"one of {', '.join(allowed)}")
        for name, kind in (("milestones", _is_number), ("depths", _is_integer)):
            value = getattr(self, name)
            is_list = isinstance(value, list | tuple) and all(map(kind, value))
            self._check(name, is_list, "a list of numbers")
            object.__setattr__(self, name, tuple(value))
        self._check("depths", len(self.depths) == 4 and min(self.depths) >= 1, "four integers >= 1")
        times = self.milestones
        if self.decay == "cosine":
            self._check("milestones", not times, "left out where decay is cosine")
        else:
            rising = all(a < b for a, b in itertools.pairwise(times))
            inside = bool(times) and self.warmup_epochs <= times[0] and times[-1] < self.epochs
            self._check("milestones", rising and inside, "increasing epochs from warm-up to end")
        self._check("optimizer", isinstance(self.optimizer, Mapping), "an object")
        self._check_optimizer()

    def _check(self, name: str, condition: bool, allowed: str) -> None:
        if not condition:
            raise ValueError(f"{name} must be {allowed}, got {getattr(self, name)!r}")

    def _check_optimizer(self) -> None:
        name = self.optimizer.get("name")
        if name not in _OPTIONS:
            allowed = ", ".join(_OPTIONS)
            raise ValueError(f"optimizer.name must be one of {allowed}, got {name!r}")
        for key in self.optimizer.keys() - {"name"}:
            if key not in _OPTIONS[name]:
                allowed = ", ".join(_OPTIONS[name])
                hint = "; lr is a key beside optimizer" if key == "lr" else ""
                raise ValueError(f"optimizer.{key} is no option of {name}: {allowed}{hint}")
        try:
            self.build_optimizer(nn.ParameterList([nn.Parameter(torch.zeros(1, 1))]))
        except (TypeError, ValueError) as error:
            raise ValueError(f"optimizer: {error}") from error

    def plain(self) -> dict[str, Any]:
        """The values as JSON holds them."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    def shrunk(self) -> "Config":
        """The same recipe on a network and a batch that a CPU trains in seconds.

        The learning rate goes with the batch size, as in Goyal et al. 2017 (arXiv:1706.02677).

        >>> read(CONFIGS / "sgd.json").shrunk().lr
        0.0125
        """
        epochs, batch_size = 6, 32
        stretch = epochs / self.epochs
        return dataclasses.replace(
            self,
            epochs=epochs,
            batch_size=batch_size,
            lr=self.lr * batch_size / self.batch_size,
            warmup_epochs=self.warmup_epochs * stretch,
            milestones=tuple(epoch * stretch for epoch in self.milestones),
            precision="float32",
            depths=(1, 1, 1, 1),
            width=8,
            classes=4,
            image_size=32,
        )

    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a model's parameters, at the peak learning rate."""
        options = {key: value for key, value in self.optimizer.items() if key != "name"}
        parameters = list(model.parameters())
        no_decay = {} if self.decay_vectors else {"weight_decay": 0.0}
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim <= 1], **no_decay},
        ]
        make = torch.optim.SGD if self.optimizer["name"] == "sgd" else Shampoo
        return make(groups, lr=self.lr, **options)

    def lr_factor(self, step: int, steps_per_epoch: int) -> float:
        """Fraction of the peak learning rate at a step counted from 0."""
        warmup_steps = round(self.warmup_epochs * steps_per_epoch)
        if self.decay == "cosine" or step < warmup_steps:
            return WarmupCosine(warmup_steps, self.epochs * steps_per_epoch)(step)
        return float(10.0 ** -bisect.bisect_right(self.milestones, step / steps_per_epoch))


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_integer(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def find(name: str) -> Path:
    """The file of a configuration, which is named by its path or, if it is a shipped one, its stem.

    Raises:
      UserError: for no such file.
    """
    shipped = sorted(path.stem for path in CONFIGS.glob("*.json"))
    if name in shipped:
        return CONFIGS / f"{name}.json"
    if not name.endswith(".json"):
        raise UserError(f"--config={name}: give a .json file or one of {', '.join(shipped)}")
    return Path(name)


def read(path: Path) -> Config:
    """The configuration in a file.

    Raises:
      UserError: naming the file and the key: unknown, missing or out of range.
    """
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold a JSON object")
    fields = {field.name: field for field in dataclasses.fields(Config)}
    for name in values.keys() - fields:
        raise UserError(f"{path}: unknown key {name!r}")
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in values:
            raise UserError(f"{path}: key {name!r} is missing")
    try:
        return Config(**values)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
