"""Inverse p-th roots by matrix products alone, for devices where eigendecompositions are slow.

Nothing here waits for a device or chooses by what a matrix holds: the number of steps follows from
bounds of the spectrum that the host knows, and what goes wrong shows in `residual`.

In every product with a previous iterate the iterate itself is added outside of the product, by
baddbmm: a step is X <- a X + R X, never (a I + R) X. Small eigenvalues need that where products
round their inputs to TF32: rounding a I + R perturbs them by a fraction of a, rounding R by a
fraction of themselves.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..plan import minimax, solvers
from ..plan.minimax import Step
from .devices import seeded


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
    for _ in range(solvers.POWER_STEPS):
        vectors = torch.bmm(powers, vectors)
        vectors = vectors / torch.linalg.vector_norm(vectors, dim=-2, keepdim=True)
    products = torch.bmm(matrices, vectors)
    lengths = vectors.square().sum(dim=-2, keepdim=True)
    return (vectors * products).sum(dim=-2, keepdim=True) / lengths


def inverse_root(matrices: Tensor, power: int, steps: Sequence[Step]) -> Tensor:
    """A^(-1/p) by the steps X <- h(P) X and P <- h(P)^p P, from X = I and P = A.

    The factors h(P) = c I + R of h(P)^p P stand on both sides of P in turn, so that P stays
    congruent to A, and symmetric, where rounding keeps P and R from commuting. On one side alone
    the residual in TF32 is five times as large.

    Args:
      matrices: A, [N, d, d], symmetric, with eigenvalues within what `steps` were made for.
      power: p.
      steps: of `plan.minimax`, for p.
    """
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    ratio, root = matrices, None
    for number, step in enumerate(steps):
        keep, remainder = _factor(ratio - step.centre * identity if step.centre else ratio, step)
        if root is None:
            root = keep * identity + remainder
        else:
            root = torch.baddbmm(root, root, remainder, beta=keep)
        if number < len(steps) - 1:
            ratio = _renewed(ratio, power, keep, remainder, minimax.saves(power, step))
    assert root is not None
    return _symmetric_part(root)


def _factor(variable: Tensor, step: Step) -> tuple[float, Tensor]:
    """h as a multiple of the identity and the remainder, R = h - c_0 I."""
    first, linear, quadratic, *higher = step.coefficients
    if not higher:
        remainder = torch.baddbmm(variable, variable, variable, beta=linear, alpha=quadratic)
        return first, remainder
    square = torch.bmm(variable, variable)
    low = linear * variable + quadratic * square
    return first, torch.baddbmm(low, square, higher[0] * variable + higher[1] * square)


def _renewed(ratio: Tensor, power: int, keep: float, remainder: Tensor, squares: bool) -> Tensor:
    """h^p P, for h = keep I + remainder."""
    factors = [(keep, remainder)] * power
    if squares:
        square = torch.baddbmm(remainder, remainder, remainder, beta=2 * keep)
        factors = [(keep**2, square)] * (power // 2) + [(keep, remainder)] * (power % 2)
    for number, (scale, factor) in enumerate(factors):
        left, right = (factor, ratio) if number % 2 == 0 else (ratio, factor)
        ratio = torch.baddbmm(ratio, left, right, beta=scale)
    return _symmetric_part(ratio)


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
    shape, generator = (wide.shape[-1], solvers.ITERATION_PROBES), seeded(0, wide.device)
    probes = torch.randn(shape, dtype=wide.dtype, device=wide.device, generator=generator)
    image = probes.expand(len(matrices), -1, -1)
    for _ in range(power // 2):
        image = torch.bmm(wide, image)
    image = torch.bmm(matrices.double(), image)
    for _ in range(power - power // 2):
        image = torch.bmm(wide, image)
    error = torch.linalg.matrix_norm(image - probes) / torch.linalg.matrix_norm(probes)
    return error.to(matrices.dtype)


def _symmetric_part(matrices: Tensor) -> Tensor:
    return (matrices + matrices.mT).mul_(0.5)
