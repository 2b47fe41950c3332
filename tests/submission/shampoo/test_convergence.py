"""Every variant of the optimizer on every problem of the zoo.

Each bound is one that SGD and a rotation back by the wrong transpose miss on every problem, and
that, on the quadratic, AdamW and wrong, missing or never refreshed bases and roots miss as well.
"""

import pytest
import torch
import zoo

from submission.shampoo import Shampoo, algoperf_winner, kl_shampoo, shampoo, soap

STEPS = 100
BASE = {"lr": 0.3, "betas": (0.9, 0.9), "refresh_interval": 5}
# What may be left of the loss after the steps.
BOUNDS = {
    "kronecker quadratic": 5e-5,
    "matrix factorisation": 1e-4,
    "logistic regression": 3e-2,
    "teacher network": 1.5e-2,
}
