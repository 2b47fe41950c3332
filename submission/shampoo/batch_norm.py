"""Running statistics of batch normalisation, for weights that training did not have."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def normalising_layers(model: nn.Module) -> list[nn.Module]:
    """The layers whose running statistics training updates.

    Torch's and others alike: those with `running_mean`, `running_var` and a `momentum` that is not
    0, which is the new statistics' share in the update, as in torch.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.BatchNorm1d(3, momentum=0.0))
    >>> normalising_layers(model) == [model[1]]
    True
    """
    return [
        layer
        for layer in model.modules()
        if isinstance(getattr(layer, "running_mean", None), Tensor)
        and isinstance(getattr(layer, "running_var", None), Tensor)
        and getattr(layer, "momentum", 0.0) != 0
    ]


def running_statistics(layers: Iterable[Any]) -> list[Tensor]:
    """Running mean and variance of one layer after the other; live tensors, of each layer two."""
    return [value for layer in layers for value in (layer.running_mean, layer.running_var)]


def changing_buffers(layers: Iterable[nn.Module]) -> list[Tensor]:
    """All buffers of the layers that a forward pass in train mode changes; live tensors."""
    names = ("running_mean", "running_var", "num_batches_tracked")
    buffers = (getattr(layer, name, None) for layer in layers for name in names)
    return [buffer for buffer in buffers if isinstance(buffer, Tensor)]


def update_statistics(
    layers: Sequence[Any], batches: Iterable[Any], forward: Callable[[Any], Any]
) -> None:
    """Replaces running means and variances by their means over the batches.

    Unlike `torch.optim.swa_utils.update_bn` it leaves every layer's momentum alone, on which a
    compiled model would be compiled again, and takes layers that are not torch's.

    Args:
      layers: `normalising_layers` of the model.
      batches: without any, nothing changes.
      forward: called with each batch, once; the model's forward pass in train mode.
    """
    before = [buffer.clone() for buffer in changing_buffers(layers)]
    shares = [1.0 if layer.momentum is None else layer.momentum for layer in layers for _ in "mv"]
    sums = [torch.zeros_like(statistic) for statistic in running_statistics(layers)]
    count = 0
    try:
        for batch in batches:
            # A pass that starts from 0 leaves the momentum's share of the batch's own statistics.
            torch._foreach_zero_(changing_buffers(layers))
            forward(batch)
            pairs = zip(running_statistics(layers), shares, strict=True)
            of_batch = [statistic / share for statistic, share in pairs]
            torch._foreach_add_(sums, of_batch)
            count += 1
    finally:
        for buffer, value in zip(changing_buffers(layers), before, strict=True):
            buffer.copy_(value)
    if count:
        for statistic, total in zip(running_statistics(layers), sums, strict=True):
            statistic.copy_(total / count)
