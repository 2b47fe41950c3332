"""Ranks that train replicas of one model: each takes its rows of every global batch.

Without `torch.distributed` there is one rank, and nothing here changes anything.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from common.cli import UserError


def rank() -> int:
    """This process's number among those that train together, from 0."""
    return dist.get_rank() if _initialised() else 0


def count() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if _initialised() else 1


def _initialised() -> bool:
    return dist.is_available() and dist.is_initialized()


def rows(batch_size: int) -> slice:
    """This rank's rows of a global batch; UserError if it does not divide evenly."""
    if batch_size % count():
        raise UserError(
            f"--nproc={count()}: the global batch of {batch_size} examples does not divide evenly "
            f"among {count()} processes"
        )
    size = batch_size // count()
    return slice(rank() * size, (rank() + 1) * size)


def dropout(x: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
    """As `F.dropout` of this rank's rows [rows, ...], with the mask they have in the whole batch.

    Where all ranks have the same random state, they drop together what one process would, and
    still have the same state then. Each draws the whole mask.
    """
    if count() == 1 or not training:
        return F.dropout(x, rate, training)
    mask = F.dropout(x.new_ones(count() * len(x), *x.shape[1:]), rate, training)
    return x * mask[rows(len(mask))]


def replicate(
    model: nn.Module,
    forward: Callable[[nn.Module], torch.Tensor],
    normalises_shares: bool = False,
) -> nn.Module:
    """The model, under several ranks in DistributedDataParallel, as the official runner has it.

    Its buffers, running statistics among them, are left as they were.

    Args:
      forward: gives the replica's outputs for some inputs; not called where there is one rank.
      normalises_shares: whether batch normalisation is to take each rank's share by itself.

    Raises:
      UserError: if the model normalises over batches, and `normalises_shares` is false.
    """
    if count() == 1:
        return model
    normalises = any(isinstance(module, _BatchNorm) for module in model.modules())
    if normalises and not normalises_shares:
        raise UserError(
            f"--nproc={count()}: {type(model).__name__} has batch normalisation, whose statistics "
            "would be those of a part of the batch"
        )
    replica = DistributedDataParallel(model)
    # The first backward pass decides how gradients lie in buckets, and with that in which order
    # they are summed. Done here, the order is the same in a run and in one that resumes it.
    before = [buffer.clone() for buffer in model.buffers()]
    forward(replica).sum().backward()
    replica.zero_grad(set_to_none=True)
    for buffer, value in zip(model.buffers(), before, strict=True):
        buffer.copy_(value)
    return replica


def bare(model: nn.Module) -> nn.Module:
    """The model without DistributedDataParallel and `torch.compile` around it.

    Its parameters have their own names, and its forward pass has no collectives.
    """
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model
