"""Which solvers "auto" comes to where a step is traced."""

import jax

from ..plan.options import ShampooOptions
from ..plan.solvers import resolve_basis_solver, resolve_root_solver
from .options import Number


def root_solver(options: ShampooOptions, exponent: float, damping: Number) -> str:
    """Of inverse roots; the iteration by products is made for a damping that is known by then."""
    accelerated = _is_accelerated() and not isinstance(damping, jax.Array)
    return resolve_root_solver(options.root_solver, exponent, accelerated)


def basis_solver(options: ShampooOptions) -> str:
    """Of eigenbases."""
    return resolve_basis_solver(options.basis_solver, _is_accelerated())


def _is_accelerated() -> bool:
    # Not before a step is traced: it would settle the devices, of which other processes may come.
    return jax.default_backend() != "cpu"
