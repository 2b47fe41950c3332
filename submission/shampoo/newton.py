"""Inverse p-th roots by matrix products alone, for devices where eigendecompositions are slow.

Nothing here waits for a device or chooses by what a matrix holds: the number of steps follows from
bounds of the spectrum that the host knows, and what goes wrong shows in `residual`.

In every product with a previous iterate the iterate itself is added outside of the product, by
baddbmm: a step is X <- a X - b P X, never (a I - b P) X. Small eigenvalues need that where products
round their inputs to TF32: rounding a I - b P perturbs them by a fraction of a, rounding P by a
fraction of themselves.
"""

import functools
import math

import torch
from torch import Tensor

# Squarings before an estimate of a largest eigenvalue. In float32 it is then low by 2e-3 on spectra
# crowded at their upper end and by rounding on others, and so is the damping; in float64 by 2e-7 at
# worst.
SQUARINGS = {torch.float32: 6, torch.float64: 24}
_POWER_STEPS = 8
_PROBES = 8
# Of eigenvalues, relative: by how much rounding, in TF32 at worst, may take them out of bounds.
_ROUNDING = 1.01
# Steps to a square root are optimal for singular values above this fraction of the largest. With
# less there are fewer steps, but the largest come closer to 0 in each, and the error in TF32 grows:
# at 0.3 it is a quarter larger, on some inputs much more.
_CUSHION = 0.5
# How close to 1 scaled steps take singular values before plain ones do the rest.
_NEAR = 0.01


def largest_eigenvalue(matrices: Tensor, squarings: int) -> Tensor:
    """A Rayleigh quotient close to the largest eigenvalue, and never above it, [N, 1, 1].

    At a column of A^q, q = 2**squarings, after further steps x <- A^q x. The column is the longest:
    then the quotient is at least the largest eigenvalue times d**(-1/(2 q)), even before them.

    Args:
      matrices: A, [N, d, d], symmetric, positive semi-definite up to rounding, not zero.
      squarings: products of whole matrices to be spent.
    """
    powers = matrices
    for _ in range(squarings):
        powers = powers / torch.linalg.matrix_norm(powers, keepdim=True)
        powers = torch.bmm(powers, powers)
    longest = torch.linalg.vector_norm(powers, dim=-2).argmax(dim=-1)
    index = longest[:, None, None].expand(-1, matrices.shape[-1], 1)
    vectors = powers.gather(-1, index)
    for _ in range(_POWER_STEPS):
        vectors = torch.bmm(powers, vectors)
        vectors = vectors / torch.linalg.vector_norm(vectors, dim=-2, keepdim=True)
    products = torch.bmm(matrices, vectors)
    lengths = vectors.square().sum(dim=-2, keepdim=True)
    return (vectors * products).sum(dim=-2, keepdim=True) / lengths


def overshoot(dimension: int, dtype: torch.dtype) -> float:
    """By which factor a largest eigenvalue may exceed the estimate with `SQUARINGS`."""
    return _ROUNDING * dimension ** (0.5 ** (SQUARINGS[dtype] + 1))


def coupled_newton(matrices: Tensor, power: int, lowest: float, highest: float) -> Tensor:
    """A^(-1/p) by the coupled Newton iteration (Iannazzo 2006; Higham 2008, equation 7.18).

    X <- X N and M <- N^p M with N = ((p + 1) I - M) / p, from M = z A and X = z^(1/p) I: M tends to
    the identity. N^p M is taken factor by factor, see above: N^2 and N^4 would be one product
    fewer for p = 4, and not a number in TF32 at a condition of 1e5.

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


def residual(matrices: Tensor, roots: Tensor, power: int) -> Tensor:
    """An estimate of ||X^(p/2) A X^(p/2) - I||_F / sqrt(d), [N]: how far X is from A^(-1/p).

    That is, by what fraction a random vector changes that should be left as it is. For odd p the
    powers are (p-1)/2 and (p+1)/2. A direction whose own residual is r shows as r/sqrt(d), whether
    or not the eigenvectors are spread over the coordinates: where the residual is below 0.1, no
    eigenvalue of X^p A exceeds 1 + 0.1 sqrt(d).

    Measured on a few fixed vectors, in float64: float32 products at a condition of 1e6 would
    mistake their own rounding for an error, the more so where they run in TF32.

    Args:
      matrices: A, [N, d, d].
      roots: X, [N, d, d].
      power: p.
    """
    wide = roots.double()
    generator = torch.Generator(matrices.device).manual_seed(0)
    probes = torch.randn(
        (wide.shape[-1], _PROBES), dtype=wide.dtype, device=wide.device, generator=generator
    )
    image = probes.expand(len(matrices), -1, -1)
    for _ in range(power // 2):
        image = torch.bmm(wide, image)
    image = torch.bmm(matrices.double(), image)
    for _ in range(power - power // 2):
        image = torch.bmm(wide, image)
    error = torch.linalg.matrix_norm(image - probes) / torch.linalg.matrix_norm(probes)
    return error.to(matrices.dtype)


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
