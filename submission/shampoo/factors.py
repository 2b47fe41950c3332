"""Kronecker factor averages on stacks of blocks."""

from torch import Tensor


def update_(
    left: Tensor | None, right: Tensor | None, grad: Tensor, decay: Tensor, weight: float
) -> None:
    """Averages outer products of gradients into the factors, in place.

    L <- decay L + weight G G^T and R <- decay R + weight G^T G
    (Gupta et al. 2018, arXiv:1802.09568, algorithm 1, with an EMA instead of a sum).

    Args:
      left: L, [N, m, m], or None where the left side has no factor.
      right: R, [N, n, n], or None.
      grad: G, [N, m, n]; zero for blocks whose factors must not change.
      decay: [N, 1, 1]; 1 for blocks whose factors must not change.
      weight: weight of the new product, the same for all blocks.
    """
    if left is not None:
        left.mul_(decay).baddbmm_(grad, grad.mT, alpha=weight)
    if right is not None:
        right.mul_(decay).baddbmm_(grad.mT, grad, alpha=weight)
