"""What every trainer is given: a small network, data, and optimizers that refresh every 3 steps."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from submission.shampoo import Shampoo

METHODS = ("shampoo", "soap", "kl_shampoo")
BATCHES = 8  # in an epoch


def network() -> nn.Sequential:
    """The same weights at each call."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.LayerNorm(20), nn.Linear(20, 6))


def optimizer(parameters: Any, method: str, **options: Any) -> Shampoo:
    """With the decay and momentum that a trainer would lose if it lost state."""
    chosen = {"method": method, "lr": 1e-2, "refresh_interval": 3, "block_size": 16}
    return Shampoo(parameters, **{**chosen, "weight_decay": 0.1, "momentum": 0.5, **options})


def dataset() -> TensorDataset:
    """64 examples of 12 numbers, with 6 to predict."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(64, 12, generator=generator)
    return TensorDataset(inputs, torch.randn(64, 6, generator=generator))


def loader() -> DataLoader:
    """`BATCHES` batches, in the same order in each epoch."""
    return DataLoader(dataset(), batch_size=64 // BATCHES)


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.mse_loss(outputs.float(), targets)


def weights(model: nn.Module) -> list[Tensor]:
    """Copies of a model's weights."""
    return [parameter.detach().clone() for parameter in model.parameters()]


def largest_difference(found: Iterable[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of two numbers in the same place; 0 means bitwise the same."""
    pairs = zip(found, expected, strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
