"""Which solver takes a root or a basis, and when its result is trusted; for both frameworks."""

import math
from typing import NamedTuple

from . import minimax
from .minimax import Step
from .options import BASIS_SOLVERS, check_choice, check_root_solver

# By the bits of a number. Squarings before an estimate of a largest eigenvalue. In float32 it is
# then low by 2e-3 on spectra crowded at their upper end and by rounding on others, and so is the
# damping; in float64 by 2e-7 at worst.
SQUARINGS = {32: 6, 64: 24}
# Of a root, relative: about a unit of rounding, and what is left of the iteration's error.
TOLERANCES = {32: 1e-7, 64: 1e-14}
_EPSILONS = {32: 2.0**-23, 64: 2.0**-52}
# Of eigenvalues, relative: by how much rounding, in TF32 at worst, may take them out of bounds.
_ROUNDING = 1.01
# Further steps of power iteration for a largest eigenvalue.
POWER_STEPS = 8
# Vectors that a root by products is checked on, and up to which residual it is trusted. In float32
# residuals reach 0.02 at a damping of 1e-6, in TF32 0.03 at 1e-5.
ITERATION_PROBES = 8
MAX_ITERATION_RESIDUAL = 0.1
# From which damping on iterations to A^(-1/p) with an even p may take products in TF32. Their
# residual then stays below 0.03; at a tenth of it, it comes to 0.1 on full spectra, where a root is
# not trusted, and so it does with an odd p.
TF32_DAMPING = 1e-5

# Relative. A backward-stable solver errs by the rounding of the dtype; this far off, it failed.
MAX_RESIDUAL = 1e-2
# Of V^T V - I, entrywise, by the bits of a number. Solvers in full precision err by 1e-6 in float32
# and 1e-14 in float64; products in TF32, where a user allows them, by up to 5e-3.
MAX_NON_ORTHONORMALITY = {32: 1e-2, 64: 1e-10}
# Vectors that a decomposition is checked on.
PROBES = 4
# The highest p for which "auto" takes A^(-1/p) by products.
_MOST_POWER = 8


def resolve_root_solver(solver: str, exponent: float, accelerated: bool) -> str:
    """The solver that "auto" comes to, or the given one, if it can take this root.

    Args:
      solver: "eigh", which can take all; "products", for exponents 1/p with an integer p; "auto",
        which is "eigh" on a CPU, and elsewhere "products" up to p = 8.
      exponent: the inverse power.
      accelerated: whether the matrices are on a device where products are the faster.

    Raises:
      ValueError: if there is no such solver, or not for this exponent.

    >>> resolve_root_solver("auto", 1 / 4, True), resolve_root_solver("auto", 0.3, True)
    ('products', 'eigh')
    """
    check_root_solver("solver", solver)
    power = round(1 / exponent)
    is_root = math.isclose(exponent * power, 1)
    if solver == "auto":
        return "products" if accelerated and is_root and power <= _MOST_POWER else "eigh"
    if solver == "products" and not is_root:
        raise ValueError(
            f"exponent must be 1 over an integer for solver {solver!r}, got {exponent!r}."
        )
    return solver


def overshoot(dimension: int, bits: int) -> float:
    """By which factor a largest eigenvalue may exceed the estimate with `SQUARINGS`."""
    return float(_ROUNDING * dimension ** (0.5 ** (SQUARINGS[bits] + 1)))


def resolve_basis_solver(solver: str, accelerated: bool) -> str:
    """The solver of eigenbases that "auto" comes to, or the given one.

    Args:
      solver: one of `BASIS_SOLVERS`; "auto" is "eigh" on a CPU, elsewhere "cholesky_qr".
      accelerated: as for `resolve_root_solver`.

    Raises:
      ValueError: if there is no such solver.

    >>> resolve_basis_solver("auto", True), resolve_basis_solver("auto", False)
    ('cholesky_qr', 'eigh')
    """
    check_choice("solver", solver, BASIS_SOLVERS)
    if solver == "auto":
        return "cholesky_qr" if accelerated else "eigh"
    return solver


class Iteration(NamedTuple):
    """How products take a matrix, damped and divided by `highest`, to its inverse root.

    Attributes:
      highest: a bound of the damped eigenvalues, relative to the estimate of the largest.
      steps: see `minimax.steps`.
    """

    highest: float
    steps: tuple[Step, ...]


def iteration(power: int, damping: float, dimension: int, bits: int) -> Iteration:
    """The iteration to A^(-1/p) for matrices whose largest eigenvalue has been estimated.

    Args:
      power: p.
      damping: relative to the largest eigenvalue.
      dimension: of the matrices.
      bits: of a number: 32 or 64.

    >>> iteration(4, 1e-2, 256, 32).highest
    1.0647...
    """
    highest = overshoot(dimension, bits) + damping
    # Below the damping there are only eigenvalues that rounding has made wrong by as much.
    lowest = max(damping, _EPSILONS[bits])
    return Iteration(highest, minimax.steps(power, lowest / highest, TOLERANCES[bits]))
