"""Lists of tensors: operators on pairs, in as few kernels as torch has them; sameness."""

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

Pairs = tuple[list[Tensor], list[Tensor]]


def are_same(items: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether two sequences hold the same objects."""
    return len(items) == len(others) and all(map(operator.is_, items, others))


def by_layout(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> Iterator[Pairs]:
    """The pairs that lie alike in memory, without gaps, and then the others.

    On an accelerator torch's operators on lists step hundreds of such pairs in one kernel; a single
    other pair among them makes that a kernel for each.

    Args:
      targets, sources: of equal shapes, pair by pair.

    Yields:
      targets and sources; none that are empty.

    >>> matrix, region = torch.zeros(2, 3), torch.zeros(2, 4)[:, :3]
    >>> [len(targets) for targets, _ in by_layout([matrix, matrix], [matrix, matrix])]
    [2]
    >>> [len(targets) for targets, _ in by_layout([region, matrix, matrix], [matrix] * 3)]
    [2, 1]
    """
    alike: Pairs = [], []
    others: Pairs = [], []
    for target, source in zip(targets, sources, strict=True):
        is_alike = target.is_contiguous() and target.stride() == source.stride()
        for side, tensor in zip(alike if is_alike else others, (target, source), strict=True):
            side.append(tensor)
    yield from (pairs for pairs in (alike, others) if pairs[0])


def copy_(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copies sources to targets, of any layouts and dtypes."""
    for pairs in by_layout(targets, sources):
        torch._foreach_copy_(*pairs)
