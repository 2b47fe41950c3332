"""Shampoo written for reading: one block at a time, straight from the papers, in float64.

The tests' oracle for the stack-based code; it shares none of it.
"""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def inverse_root(matrix: Matrix, exponent: float, damping: float) -> Matrix:
    """A^(-exponent) of a symmetric matrix [d, d]; damping is relative to the largest eigenvalue."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if values[-1] <= 0:
        return np.eye(len(matrix))
    damped = np.maximum(values, 0) + damping * values[-1]
    root: Matrix = vectors @ np.diag(damped**-exponent) @ vectors.T
    return root


def even_slices(length: int, block_size: int) -> list[slice]:
    """Cuts range(length) into the fewest even parts of at most `block_size`, larger parts first."""
    parts = math.ceil(length / block_size)
    sizes = [length // parts + (part < length % parts) for part in range(parts)]
    starts = np.cumsum([0, *sizes])
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(starts)]


@dataclasses.dataclass
class Block:
    """State of one block [m, n]; a factor is None where the side is not preconditioned."""

    rows: slice
    columns: slice
    left: Matrix | None
    right: Matrix | None
    left_root: Matrix | None = None
    right_root: Matrix | None = None


class ReferenceShampoo:
    """One parameter under Shampoo with AdamW grafting.

    Args:
      weight: the parameter, any shape; copied to float64.
      lr, betas, eps, weight_decay, block_size, max_dim, max_aspect, exponent, damping,
        refresh_interval, nesterov: as in `Shampoo`.
    """

    def __init__(
        self,
        weight: NDArray[Any],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        block_size: int,
        max_dim: int,
        max_aspect: float,
        exponent: float | None,
        damping: float,
        refresh_interval: int,
        nesterov: bool,
    ) -> None:
        self.weight = np.array(weight, dtype=np.float64)
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.exponent, self.damping, self.nesterov = exponent, damping, nesterov
        self.refresh_interval = refresh_interval
        self.steps = 0
        self.calls = 0
        self.m = np.zeros_like(self.weight)
        self.v = np.zeros_like(self.weight)
        self.blocks = self._blocks(block_size, max_dim, max_aspect)

    def _blocks(self, block_size: int, max_dim: int, max_aspect: float) -> list[Block]:
        if self.weight.ndim < 2:
            return []
        height, width = self.weight.reshape(len(self.weight), -1).shape
        if min(height, width) == 1 or max(height, width) > max_dim:
            return []
        block_height, block_width = min(height, block_size), min(width, block_size)
        tall = block_height > max_aspect * block_width
        wide = block_width > max_aspect * block_height
        return [
            Block(
                rows,
                columns,
                None if tall else np.zeros((rows.stop - rows.start,) * 2),
                None if wide else np.zeros((columns.stop - columns.start,) * 2),
            )
            for rows in ([slice(0, height)] if tall else even_slices(height, block_size))
            for columns in ([slice(0, width)] if wide else even_slices(width, block_size))
        ]

    def step(self, grad: NDArray[Any]) -> None:
        """One step with gradient `grad`, the weight's shape; a non-finite one changes nothing."""
        self.calls += 1
        grad = grad.astype(np.float64)
        if not np.isfinite(grad).all():
            return
        self.steps += 1
        beta1, beta2 = self.betas
        self.m = beta1 * self.m + (1 - beta1) * grad
        self.v = beta2 * self.v + (1 - beta2) * grad**2
        average = beta1 * self.m + (1 - beta1) * grad if self.nesterov else self.m
        m_hat = average / (1 - beta1**self.steps)
        v_hat = self.v / (1 - beta2**self.steps)
        update = m_hat / (np.sqrt(v_hat) + self.eps)
        if self.blocks:
            matrix_shape = (len(self.weight), -1)
            adam = update.reshape(matrix_shape)
            shampoo = np.zeros_like(adam)
            for block in self.blocks:
                at = (block.rows, block.columns)
                self._update_factors(block, grad.reshape(matrix_shape)[at])
                direction = self._precondition(block, m_hat.reshape(matrix_shape)[at])
                norm = np.linalg.norm(direction)
                graft = np.linalg.norm(adam[at])
                shampoo[at] = direction * (graft / norm) if norm > 0 else adam[at]
            update = shampoo.reshape(self.weight.shape)
        self.weight *= 1 - self.lr * self.weight_decay
        self.weight -= self.lr * update

    def _update_factors(self, block: Block, grad: Matrix) -> None:
        """L <- beta2 L + (1-beta2) G G^T, R <- beta2 R + (1-beta2) G^T G, and their roots."""
        beta2 = self.betas[1]
        if block.left is not None:
            block.left = beta2 * block.left + (1 - beta2) * grad @ grad.T
        if block.right is not None:
            block.right = beta2 * block.right + (1 - beta2) * grad.T @ grad
        early = self.calls < self.refresh_interval and math.log2(self.calls).is_integer()
        if not early and self.calls % self.refresh_interval:
            return
        sides = (block.left is not None) + (block.right is not None)
        power = 1 / (2 * sides) if self.exponent is None else self.exponent
        correction = 1 - beta2**self.steps
        if block.left is not None:
            block.left_root = inverse_root(block.left / correction, power, self.damping)
        if block.right is not None:
            block.right_root = inverse_root(block.right / correction, power, self.damping)

    def _precondition(self, block: Block, average: Matrix) -> Matrix:
        """S = L^(-e) M R^(-e); zero before there are roots."""
        if block.left_root is None and block.right_root is None:
            return np.zeros_like(average)
        if block.left_root is not None:
            average = block.left_root @ average
        if block.right_root is not None:
            average = average @ block.right_root
        return average
