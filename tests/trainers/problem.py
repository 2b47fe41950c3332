"""What every trainer is given: a small network, data, and optimizers that refresh every 3 steps."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, TensorDataset

from submission.shampoo import Shampoo
from tests.submission.shampoo import ranks

# Weights at the end of an uninterrupted run and of a resumed one.
Ends = tuple[list[Tensor], list[Tensor]]

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


def trained(model: nn.Module, optimizer: Any, steps: range) -> list[Tensor]:
    """Weights after these steps, one per batch in turn; each rank sees all of a batch."""
    batches = list(loader())
    for step in steps:
        inputs, targets = batches[step % len(batches)]
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()
    optimizer.zero_grad()
    return weights(model)


def weights(model: nn.Module) -> list[Tensor]:
    """Copies of a model's weights, whole also where they are sharded."""
    copies = [parameter.detach().clone() for parameter in model.parameters()]
    return [w.full_tensor() if isinstance(w, DTensor) else w for w in copies]


def largest_difference(values: Iterable[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of two numbers in the same place; 0 means bitwise the same."""
    pairs = zip(values, expected, strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def launched(
    world: int, ends: Callable[..., Ends], method: str, folder: Path, **settings: Any
) -> Ends:
    """What `ends` returns here or, of several processes, on rank 0; all have the same weights."""
    if world == 1:
        return ends(method, folder, **settings)
    first, *others = ranks.run(world, _rank, world, ends, method, folder, settings)
    for other in others:
        assert max(map(largest_difference, other, first)) == 0
    return first


def _rank(rank: int, world: int, ends: Callable[..., Ends], *args: Any) -> Ends:
    """A rank that its trainer takes for one that torchrun has started."""
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ |= {name: str(value) for name, value in variables.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}  # asked for and not used
    *args, settings = args
    return ends(*args, **settings)
