"""The validation set's loss and accuracy, over the ranks' shares of it."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.standin import replicas


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Mean cross entropy and top-1 accuracy over the validation set; a collective.

    Each image counts once. The loss is without label smoothing. Leaves the model in evaluation
    mode, with the buffers of rank 0.

    Args:
      model: without DistributedDataParallel around it.
      batches: this rank's share, images [size, 3, edge, edge] and labels int64 [size] on the
        model's device.
    """
    if replicas.count() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=next(model.parameters()).device)
    for images, labels in batches:
        logits = model(images)
        losses = F.cross_entropy(logits, labels, reduction="none")
        right = (logits.argmax(dim=1) == labels).sum()
        sums += torch.stack([losses.double().sum(), right, right.new_tensor(len(labels))])
    loss, right, count = torch.stack(of_ranks(sums)).sum(0).tolist()
    return loss / count, right / count


def of_ranks(value: Tensor) -> list[Tensor]:
    """`value` of every rank, on the CPU; a collective."""
    own = value.cpu()
    if replicas.count() == 1:
        return [own]
    found = [torch.empty_like(own) for _ in range(replicas.count())]
    dist.all_gather(found, own)
    return found
