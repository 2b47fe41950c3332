"""JAX's rows of the benchmark of steps take torch's steps, and say what compiling takes."""

import sys

import numpy as np
import pytest
import torch

from scripts.benchmark import compiled, report
from scripts.benchmark.stepped import SteppedOptimizer, gradients
from scripts.local import rivals
from scripts.local.rivals import RivalOptions

CPU = torch.device("cpu")
SHAPES = {"weight": (6, 4), "bias": (6,), "kernel": (4, 2, 3, 3)}
# Damped, since roots of ill-conditioned factors differ by what two frameworks round.
OPTIONS = RivalOptions(
    lr=0.1,
    weight_decay=0.1,
    block_size=4,
    interval=2,
    shampoo_options={"refresh": "together", "damping": 1e-2},
)


def test_is_absent_where_it_cannot_run(monkeypatch):
    present, missing = compiled.survey(torch.device("cuda"))
    assert not present and compiled.BASELINE in missing
    monkeypatch.setitem(sys.modules, "optax", None)
    present, missing = compiled.survey(CPU)
    assert not present and missing[compiled.BASELINE].startswith("ModuleNotFoundError")


@pytest.mark.parametrize(
    ("name", "twin"), [("optax_adamw", "adamw"), ("jax_shampoo", "ours_shampoo")]
)
def test_steps_are_those_of_torch(name, twin):
    for module in ("jax", "optax"):
        pytest.importorskip(module, reason=f"{module} is not installed: requirements-jax.txt")
    sets = gradients(SHAPES, CPU)
    made = [compiled.survey(CPU)[0][name], rivals.available()[twin]]
    steppers = [SteppedOptimizer(rival, SHAPES, sets, OPTIONS) for rival in made]
    for _ in range(4):
        due = []
        for stepper in steppers:
            due.append(stepper.prepare())
            stepper.step()
        assert due[0] == due[1]
    optimizer = steppers[0].optimizer
    for weight, other in zip(optimizer.weights, steppers[1].parameters, strict=True):
        np.testing.assert_allclose(weight, other.detach().numpy(), rtol=1e-3, atol=1e-4)
    assert steppers[0].memory()["state_bytes"] >= 4 * 2 * (24 + 6 + 72)
    assert steppers[0].preparation()["compile_milliseconds"] > 0
    assert steppers[1].preparation() == {}


def test_a_table_has_what_compiling_takes():
    rows = [
        {"optimizer": "adamw"},
        {"optimizer": compiled.BASELINE, "compile_milliseconds": 200.0},
        {"optimizer": "jax_shampoo", "compile_milliseconds": 500.0},
    ]
    text = "\n".join(report._compilation(rows))
    assert "| jax_shampoo | 500 | 2.5 |" in " ".join(text.split())
    assert report._compilation(rows[:1]) == []
