"""The recipe of a run: a JSON file, its optimizer, and the learning rate at every step."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common import files
from common.cli import UserError
from submission.algoperf_api.schedules import WarmupCosine
from submission.shampoo import Shampoo
from workloads.rows import row

CONFIGS = Path(__file__).parent / "configs"
_OPTIMIZERS: dict[str, Any] = {"sgd": torch.optim.SGD, "shampoo": Shampoo}


@dataclasses.dataclass(frozen=True)
class Config:
    """One run's recipe; docs/imagenet.md gives the sources of the shipped ones.

    Attributes:
      optimizer: `name`, "shampoo" or "sgd", and the options that it is constructed with.
      batch_size: images per step, over all GPUs.
      lr: the learning rate's peak, after a linear warm-up and before half a cosine to 0.
      decay_vectors: whether biases and the normalisation's parameters decay as well.
      precision: "float32" or "bfloat16", of the network under autocast; all else is float32.
    """

    optimizer: dict
    epochs: int
    batch_size: int
    lr: float
    warmup_epochs: float
    label_smoothing: float
    decay_vectors: bool
    precision: str

    def check(self) -> None:
        """TypeError or ValueError for a value out of range, or an option that does not exist."""
        if min(self.epochs, self.batch_size) < 1 or not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError("epochs and batch_size must be >= 1, warmup_epochs in [0, epochs)")
        if not 0 <= self.label_smoothing < 1 or self.precision not in ("float32", "bfloat16"):
            raise ValueError("label_smoothing must be in [0, 1), precision float32 or bfloat16")
        if self.optimizer.get("name") not in _OPTIMIZERS:
            raise ValueError(f"optimizer.name must be one of {', '.join(_OPTIMIZERS)}")
        if any(key.startswith("averaging") for key in self.optimizer):
            # Averaged weights would need batch statistics of their own.
            raise ValueError("optimizer.averaging cannot be used here")
        self.build_optimizer(nn.Linear(1, 1))

    def shrunk(self) -> "Config":
        """The same recipe for six epochs with a batch, and a learning rate to it, for a CPU.

        >>> read("sgd").shrunk().lr
        0.0125
        """
        return dataclasses.replace(
            self,
            epochs=6,
            batch_size=32,
            lr=self.lr * 32 / self.batch_size,
            warmup_epochs=self.warmup_epochs * 6 / self.epochs,
            precision="float32",
        )

    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a model's parameters, at the peak learning rate."""
        options = {key: value for key, value in self.optimizer.items() if key != "name"}
        parameters = list(model.parameters())
        matrices = {"params": [p for p in parameters if p.ndim > 1]}
        vectors: dict[str, Any] = {"params": [p for p in parameters if p.ndim <= 1]}
        if not self.decay_vectors:
            vectors["weight_decay"] = 0.0
        return _OPTIMIZERS[self.optimizer["name"]]([matrices, vectors], lr=self.lr, **options)

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate at a step counted from 0."""
        warmup_steps = round(self.warmup_epochs * steps_per_epoch)
        return self.lr * WarmupCosine(warmup_steps, self.epochs * steps_per_epoch)(step)


def read(name: str) -> Config:
    """A shipped configuration or that of a JSON file; UserError naming the file and a wrong key."""
    path = CONFIGS / f"{name}.json"
    if not path.exists():
        path = Path(name)
    if path.suffix != ".json":
        shipped = sorted(path.stem for path in CONFIGS.glob("*.json"))
        raise UserError(f"--config={name}: give a .json file or one of {', '.join(shipped)}")
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold a JSON object")
    config = row(Config, values, str(path))
    try:
        config.check()
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error
    return config
