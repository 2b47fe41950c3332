"""Evaluation at averages of the iterates, batch normalisation included."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from .batch_norm import changing_buffers, normalising_layers, update_statistics
from .optimizer import Shampoo


@contextlib.contextmanager
def evaluation(
    optimizer: Shampoo,
    model: nn.Module,
    batches: Iterable[Any] = (),
    forward: Callable[[nn.Module, Any], Any] | None = None,
) -> Iterator[None]:
    """The model at its averages, in eval mode; afterwards it is as it was, bit for bit.

    Running statistics of batch normalisation are those of the weights that training moves, whose
    activations have another mean and variance than the averages'. They are taken anew from a few
    batches of training data, ten to a hundred; models without batch normalisation need none.
    Ranks take them from their own batches, as they do in training. What FSDP2 has put together of
    other weights is put together anew.

    Args:
      optimizer: of the model.
      model: in any mode.
      batches: what `forward` takes. Read only if the model normalises over batches.
      forward: takes the model and a batch; None for `model(batch)`. Runs in train mode, so that
        dropout is active, and without gradients.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    >>> optimizer = Shampoo(model.parameters(), averaging="ema")
    >>> with evaluation(optimizer, model, [torch.randn(8, 4) for _ in range(10)]):
    ...     outputs = model(torch.randn(8, 4))
    >>> model.training
    True
    """
    layers = normalising_layers(model)
    statistics = [buffer.clone() for buffer in changing_buffers(layers)]
    modes = [(module, module.training) for module in model.modules()]
    evaluates = optimizer.evaluates
    optimizer.eval()
    try:
        _reshard(model)
        if layers:
            model.train()
            with torch.no_grad():
                called = model if forward is None else partial(forward, model)
                update_statistics(layers, batches, called)
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for buffer, value in zip(changing_buffers(layers), statistics, strict=True):
            buffer.copy_(value)
        if not evaluates:
            optimizer.train()
        _reshard(model)


def _reshard(model: nn.Module) -> None:
    """Frees the whole weights that FSDP2 keeps after a forward pass without a backward pass."""
    modules: Iterable[Any] = model.modules()
    for module in modules:
        if hasattr(module, "set_reshard_after_backward"):  # a `torch.distributed.fsdp.FSDPModule`
            module.reshard()
