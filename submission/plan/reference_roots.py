"""The steps of `minimax` written for reading: one matrix at a time, as the formulas have it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .minimax import Step

Matrix = NDArray[np.floating[Any]]


def inverse_root(matrix: Matrix, power: int, steps: Sequence[Step]) -> Matrix:
    """A^(-1/p): X <- h(P) X and P <- h(P)^p P from X = I and P = A.

    Args:
      matrix: A, [d, d], symmetric, with eigenvalues within what `steps` were made for.
      power: p.
      steps: of `minimax.steps`.

    >>> from .minimax import steps
    >>> inverse_root(np.diag([1.0, 0.0625]), 4, steps(4, 0.01, 1e-14)).round(9)
    array([[1., 0.],
           [0., 2.]])
    """
    identity = np.eye(len(matrix), dtype=matrix.dtype)
    root, ratio = identity, matrix
    for step in steps:
        factor, shifted = 0 * identity, ratio - step.centre * identity
        for exponent, coefficient in enumerate(step.coefficients):
            factor = factor + coefficient * np.linalg.matrix_power(shifted, exponent)
        root = factor @ root
        ratio = np.linalg.matrix_power(factor, power) @ ratio
    return root
