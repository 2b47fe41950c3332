"""The iterations that `submission.shampoo.iteration` has replaced, to be measured beside it."""

import functools
import math

import torch
from torch import Tensor

from submission.plan import solvers
from submission.shampoo import iteration
from submission.shampoo.eigenbasis import scale_to_unit
from submission.shampoo.roots import InverseRoots

# Of eigenvalues, relative: by how much rounding, in TF32 at worst, may take them out of bounds.
_ROUNDING = 1.01
# Steps to a square root are optimal for singular values above this fraction of the largest.
_CUSHION = 0.5
# How close to 1 scaled steps take singular values before plain ones do the rest.
_NEAR = 0.01


def by_former(matrices: Tensor, exponent: float, damping: float, solver: str) -> InverseRoots:
    """What `roots.by_products` finds, by a former iteration; without condition numbers.

    Args:
      matrices, exponent, damping: as in `roots.inverse_root`.
      solver: "coupled_newton", or for exponents 1/2 and 1/4 "newton_denman_beavers".
    """
    power = round(1 / exponent)
    scaled, bounds = scale_to_unit(matrices)
    empty = scaled.abs().amax(dim=(-2, -1), keepdim=True) == 0
    limits = torch.finfo(scaled.dtype)
    largest = iteration.largest_eigenvalue(scaled, solvers.SQUARINGS[limits.bits])
    damped = scaled / torch.where(empty, 1.0, largest)
    damped.diagonal(dim1=-2, dim2=-1).add_(damping)
    lowest = max(damping, limits.eps) / 2
    highest = solvers.overshoot(scaled.shape[-1], limits.bits) + damping
    root = FORMER[solver](damped, power, lowest, highest)
    residual = iteration.residual(damped, root, power).masked_fill(empty.flatten(), 0.0)
    identity = torch.eye(scaled.shape[-1], dtype=scaled.dtype, device=scaled.device)
    root = root * largest.pow(-exponent) * bounds.pow(-exponent)
    root = torch.where(empty, identity, root)
    trusted = residual <= solvers.MAX_ITERATION_RESIDUAL
    trusted &= root.isfinite().flatten(1).all(dim=1)
    return InverseRoots(root, trusted, residual, torch.full_like(residual, torch.nan))


def coupled_newton(matrices: Tensor, power: int, lowest: float, highest: float) -> Tensor:
    """A^(-1/p) by the coupled Newton iteration (Iannazzo 2006; Higham 2008, equation 7.18).

    X <- X N and M <- N^p M with N = ((p + 1) I - M) / p, from M = z A and X = z^(1/p) I: M tends to
    the identity.

    Args:
      matrices: A, [N, d, d], symmetric.
      power: p.
      lowest, highest: bounds of the eigenvalues, 0 < lowest.
    """
    scale = (power + 1) / (2 * highest)
    keep, take = 1 + 1 / power, -1 / power
    ratio = matrices * scale
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    root = (identity * (scale ** (1 / power))).expand_as(matrices)
    steps = _newton_steps(power, scale * lowest, torch.finfo(matrices.dtype).eps)
    for step in range(steps):
        root = torch.baddbmm(root, root, ratio, beta=keep, alpha=take)
        if step < steps - 1:
            product = ratio
            for _ in range(power):
                product = torch.baddbmm(product, ratio, product, beta=keep, alpha=take)
            ratio = product
    return _symmetric_part(root)


def newton_denman_beavers(matrices: Tensor, power: int, lowest: float, highest: float) -> Tensor:
    """A^(-1/2) or A^(-1/4) by the Denman-Beavers iteration without inverses, scaled.

    Y <- Y (a I - b Z Y) and Z <- (a I - b Z Y) Z tend to A^(1/2) and A^(-1/2) from Y = A and Z = I
    (Higham 2008, equation 6.35, where a = 3/2 and b = 1/2); see `_scaled_steps` for a and b.
    A^(-1/4) is the inverse square root of the square root.

    Args:
      matrices: A, [N, d, d], symmetric.
      power: 2 or 4.
      lowest, highest: bounds of the eigenvalues, 0 < lowest.
    """
    if power == 4:
        matrices = _square_root(matrices, lowest, highest, inverse=False)
        lowest, highest = math.sqrt(lowest) / _ROUNDING, math.sqrt(highest) * _ROUNDING
    return _square_root(matrices, lowest, highest, inverse=True)


def _square_root(matrices: Tensor, lowest: float, highest: float, inverse: bool) -> Tensor:
    """A^(1/2), or its inverse, for A with eigenvalues between the bounds."""
    precision = torch.finfo(matrices.dtype).eps
    scaled, plain = _scaled_steps(math.sqrt(lowest), math.sqrt(highest), precision)
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    identity = identity.expand_as(matrices)
    keep, take = scaled[0]
    root = torch.baddbmm(matrices, matrices, matrices, beta=keep, alpha=-take)
    inverse_root = keep * identity - take * matrices
    for keep, take in scaled[1:]:
        product = torch.bmm(inverse_root, root)
        root = torch.baddbmm(root, root, product, beta=keep, alpha=-take)
        inverse_root = torch.baddbmm(inverse_root, product, inverse_root, beta=keep, alpha=-take)
    # Near the end it is the other way round: what a product is wrong by vanishes with I - Z Y.
    for step in range(plain):
        error = torch.baddbmm(identity, inverse_root, root, alpha=-1)
        more = step < plain - 1
        if more or not inverse:
            root = torch.baddbmm(root, root, error, alpha=0.5)
        if more or inverse:
            inverse_root = torch.baddbmm(inverse_root, error, inverse_root, alpha=0.5)
    return _symmetric_part(inverse_root if inverse else root)


@functools.lru_cache(maxsize=256)
def _scaled_steps(
    lowest: float, highest: float, precision: float
) -> tuple[tuple[tuple[float, float], ...], int]:
    """Factors (a, b) of steps x <- a x - b x^3 that take all of [lowest, highest] near 1.

    Each step is the odd cubic that is closest to 1 on [l, highest], where l is lowest or, if that
    is larger, `_CUSHION` * highest: it has the same value at both ends, and the same error with
    the other sign at its maximum. (Compare Grishina et al. 2025, arXiv:2506.10935, and, for the
    cushion, Amsel et al. 2025, arXiv:2505.16932.) Small values double in a step, where the plain
    iteration adds a half.

    Returns:
      The factors, at least one pair, and how many steps with 3/2 and 1/2 come after them.
    """
    steps = []
    while True:
        left = max(lowest, _CUSHION * highest)
        peak = math.sqrt((highest**2 + highest * left + left**2) / 3)
        take = 2 / (2 * peak**3 + left * highest * (left + highest))
        keep = 3 * take * peak**2
        steps.append((keep, take))
        lowest, highest = keep * lowest - take * lowest**3, 2 * take * peak**3
        error = max(1 - lowest, highest - 1)
        if error <= _NEAR:
            break
    plain = 0
    while error > precision:
        error = (1.5 + error / 2) * error**2
        plain += 1
    return tuple(steps), plain


@functools.lru_cache(maxsize=256)
def _newton_steps(power: int, lowest: float, precision: float) -> int:
    """Steps of the coupled Newton iteration until an eigenvalue `lowest` < 1 of M is 1."""
    steps = 1
    # Convergence is quadratic: a step from here leaves less than `precision`.
    while 1 - lowest > math.sqrt(precision) / power:
        lowest *= ((power + 1 - lowest) / power) ** power
        steps += 1
    return steps


def _symmetric_part(matrices: Tensor) -> Tensor:
    return (matrices + matrices.mT).mul_(0.5)


FORMER = {"coupled_newton": coupled_newton, "newton_denman_beavers": newton_denman_beavers}
