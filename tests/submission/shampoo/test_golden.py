"""Trajectories stay those that were recorded, see `golden.py`."""

import numpy as np
import pytest

from tests.submission.shampoo import golden
from tests.submission.shampoo.streams import VARIANTS

EXPECTED = np.load(golden.FILE)
# Rounding differs between instruction sets; stochastic rounding to bfloat16 amplifies it.
TOLERANCE, OF_BFLOAT16 = 1e-12, 1e-3


@pytest.mark.parametrize("name", sorted(EXPECTED.keys() & VARIANTS.keys()))
def test_weights_after_forty_steps(name):
    weights = golden.weights_after(VARIANTS[name], "float64")
    difference = np.abs(weights - EXPECTED[name]).max() / np.abs(EXPECTED[name]).max()
    assert difference <= (OF_BFLOAT16 if name == "bfloat16 state" else TOLERANCE)
