"""Kronecker factors of a stand-in in training, as inputs of root solvers."""

import math
import re

import numpy as np
import torch
from torch import Tensor

from scripts.benchmark import root_inputs
from scripts.benchmark.root_inputs import RootInput
from submission.algoperf_api import spec
from submission.shampoo import Shampoo
from workloads import registry

_BATCH, _LEARNING_RATE = 64, 3e-3
# How many of a model's factors are measured, evenly from the best to the worst conditioned.
_FACTORS = 6
_FACTOR = re.compile(r"(left|right)\.\d+")


def real_factors(workload_name: str, steps: int) -> list[RootInput]:
    """Averaged factors after some steps of Shampoo, the best and the worst conditioned among them.

    Args:
      workload_name: a stand-in.
      steps: of training, with a batch of 64 and the EMA weight 0.99 of factors.
    """
    workload = registry.load(workload_name)
    key = np.array([0, 1], dtype=np.uint32)
    model, state = workload.init_model_fn(key)
    queue = workload._build_input_queue(key, "train", "", _BATCH)
    optimizer = Shampoo(model.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.99))
    for _ in range(steps):
        batch = next(queue)
        optimizer.zero_grad()
        logits, _ = workload.model_fn(
            model, batch, state, spec.ForwardPassMode.TRAIN, key, update_batch_norm=True
        )
        workload.loss_fn(batch["targets"], logits)["summed"].div(_BATCH).backward()
        optimizer.step()
    factors = _factors(optimizer)
    condition = {name: _condition(factor) for name, factor in factors.items()}
    ordered = sorted(factors, key=lambda name: condition[name])
    chosen = np.linspace(0, len(ordered) - 1, _FACTORS).round().astype(int)
    return [
        root_inputs.decomposed(f"{ordered[n]}, d = {len(factors[ordered[n]])}", factors[ordered[n]])
        for n in chosen
    ]


def _factors(optimizer: Shampoo) -> dict[str, Tensor]:
    """The factors [d, d] that are stored in one piece, by the number of their parameter."""
    factors = {}
    for number, state in enumerate(optimizer.state.values()):
        for key, rows in state.items():
            for block, stored in enumerate(rows if _FACTOR.fullmatch(key) else ()):
                size = math.isqrt(stored.numel())
                if size > 1 and size**2 == stored.numel():
                    name = f"parameter {number}, {key}, block {block}"
                    factors[name] = stored.reshape(size, size).clone()
    return factors


def _condition(factor: Tensor) -> float:
    values = torch.linalg.eigvalsh(factor.double())
    return float(values[-1] / values[0].abs().clamp_min(1e-30))
