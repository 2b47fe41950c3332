"""Batched inverse roots of symmetric positive semi-definite matrices."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..plan import solvers
from ..plan.solvers import (
    MAX_ITERATION_RESIDUAL,
    SQUARINGS,
    TF32_DAMPING,
    resolve_root_solver,
)
from . import iteration
from .devices import is_queued
from .eigh import damped, decompose, scale_to_unit
from .products import at_least

# Of elements in one temporary tensor; a larger stack is worked off in parts.
_MAX_ELEMENTS = 2**25


class InverseRoots(NamedTuple):
    """(A + damping * lmax(A) * I)^(-exponent) for each matrix A of a stack.

    Attributes:
      roots: [N, d, d], exactly symmetric.
      trusted: [N] booleans: whether the root is finite and its residual small.
      residual: [N], NaN where nothing could be computed. Of an eigendecomposition: how well it
        reproduces A, see `eigh.decompose`; not trusted above `solvers.MAX_RESIDUAL`. Of an
        iteration: see `iteration.residual`; not trusted above `MAX_ITERATION_RESIDUAL`.
      condition: [N], the largest damped eigenvalue over the smallest; estimated from below where
        an iteration found the root, from the norm of the root.
    """

    roots: Tensor
    trusted: Tensor
    residual: Tensor
    condition: Tensor


def inverse_root(
    matrices: Tensor, exponent: float, damping: float, solver: str = "auto"
) -> InverseRoots:
    """The inverse power of each matrix, with damping relative to its largest eigenvalue.

    "eigh" can do all matrices; a decomposition that fails is repeated alone in float64.
    "products" takes nothing but matrix products, in a number that follows from `damping`: 30 for
    A^(-1/4) at 1e-6. In float32 it is the more exact, with a relative error of the root of 1e-8
    times the condition number, but it diverges where an eigenvalue is more negative than the
    damping makes up for. On an accelerator the host does not wait: what failed is reported as
    untrusted, for the caller to repeat with "eigh" when it learns of it. Elsewhere it is repeated
    at once, alone and in float64. For the precision of products see `products`.

    Args:
      matrices: A, [N, d, d], float32 or float64, symmetric and positive semi-definite, both up to
        rounding. Their scale does not matter. A zero matrix, and with "eigh" one without a positive
        eigenvalue, counts as the identity, without damping. One that is not finite spoils no
        neighbour.
      exponent: the inverse power, for instance 1/4.
      damping: added to the eigenvalues, as a fraction of the largest.
      solver: "eigh"; "products", for exponents 1/p with an integer p; or "auto": "eigh" on a CPU;
        elsewhere "products" up to p = 8, else "eigh".

    Raises:
      ValueError: if there is no such solver, or not for this exponent.

    >>> result = inverse_root(4 * torch.eye(2)[None], exponent=0.5, damping=0.0)
    >>> result.roots, result.trusted
    (tensor([[[0.5000, 0.0000],
             [0.0000, 0.5000]]]), tensor([True]))
    """
    solver = resolve_root_solver(solver, exponent, is_queued(matrices.device))
    most = max(1, _MAX_ELEMENTS // max(1, matrices[:1].numel()))
    parts = [_solve(part, exponent, damping, solver) for part in matrices.split(most)]
    return parts[0] if len(parts) == 1 else InverseRoots(*map(torch.cat, zip(*parts, strict=True)))


def _solve(matrices: Tensor, exponent: float, damping: float, solver: str) -> InverseRoots:
    if solver == "eigh":
        return _by_eigh(matrices, exponent, damping)
    result = by_products(matrices, exponent, damping)
    if not is_queued(matrices.device):
        failed = (~result.trusted).nonzero().squeeze(-1)
        if len(failed):
            repeated = _by_eigh(matrices[failed].double(), exponent, damping)
            for tensor, again in zip(result, repeated, strict=True):
                tensor[failed] = again.to(tensor.dtype)
            result.trusted[failed] &= is_finite(result.roots[failed])
    return result


@at_least("ieee")
def _by_eigh(matrices: Tensor, exponent: float, damping: float) -> InverseRoots:
    scaled, bounds = scale_to_unit(matrices)
    values, vectors, residual = decompose(scaled)
    empty = values[:, -1:] <= 0
    values = damped(values.clamp_min(0), damping)
    # Where the host can look, it spares two passes, 3 to 6% of a root on a CPU.
    may_be_empty = is_queued(matrices.device) or bool(empty.any())
    if may_be_empty:
        values = torch.where(empty, 1.0, values)
    roots = torch.bmm(vectors * values.pow(-exponent).unsqueeze(-2), vectors.mT)
    # Halved with the scale, exactly, in one pass less.
    roots = (roots + roots.mT).mul_(0.5 * bounds.pow(-exponent))
    if may_be_empty:
        roots = _identity_where(empty.unsqueeze(-1), roots)
    # A decomposition that failed is NaN.
    return InverseRoots(roots, is_finite(roots), residual, values[:, -1] / values[:, 0])


def by_products(matrices: Tensor, exponent: float, damping: float) -> InverseRoots:
    """What `inverse_root` finds by products alone, repeating nothing and waiting for nothing."""
    power = round(1 / exponent)
    # An odd number of factors cannot stand on both sides of a matrix alike, see `iteration`.
    rounds = damping >= TF32_DAMPING and power % 2 == 0
    with at_least("tf32" if rounds else "ieee"):
        return _by_products(matrices, exponent, power, damping)


def _by_products(matrices: Tensor, exponent: float, power: int, damping: float) -> InverseRoots:
    dtype, dimension = matrices.dtype, matrices.shape[-1]
    scaled, bounds = scale_to_unit(matrices)
    empty = scaled.amax(dim=(-2, -1), keepdim=True) == 0
    bits = torch.finfo(dtype).bits
    largest = iteration.largest_eigenvalue(scaled, SQUARINGS[bits])
    damped = scaled / torch.where(empty, 1.0, largest)
    damped.diagonal(dim1=-2, dim2=-1).add_(damping)
    highest, steps = solvers.iteration(power, damping, dimension, bits)
    roots = iteration.inverse_root(damped / highest, power, steps) * highest**-exponent
    residual = iteration.residual(damped, roots, power).masked_fill(empty.flatten(), 0.0)
    norms = iteration.largest_eigenvalue(roots, squarings=0)
    condition = torch.where(empty, 1.0, (1 + damping) * norms.pow(power)).flatten()
    # Factor by factor, since their product may leave the range of the dtype.
    roots = _identity_where(empty, roots * largest.pow(-exponent) * bounds.pow(-exponent))
    trusted = (residual <= MAX_ITERATION_RESIDUAL) & is_finite(roots)
    return InverseRoots(roots, trusted, residual, condition)


def _identity_where(empty: Tensor, matrices: Tensor) -> Tensor:
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    return torch.where(empty, identity, matrices)


def is_finite(matrices: Tensor) -> Tensor:
    """Whether all of a matrix [..., d, d] is finite, and its sum as well, [...].

    A sum is finite only if all its terms are, and takes a fraction of the time.
    """
    return matrices.sum((-2, -1)).abs() < math.inf
