"""The table of inverse roots: what is in it, and the inputs and the emulation behind it."""

import json

import numpy as np
import pytest
import torch

from common import cli
from common.cli import UserError
from scripts.benchmark import report, root_inputs
from scripts.benchmark.roots import DAMPINGS, EXPONENTS, METHODS, POWERS, SWEEP
from scripts.benchmark.tensor_float32 import TensorFloat32
from submission.plan import reference
from tests.scripts.commands import finish, must_succeed


@pytest.mark.slow
def test_measures_every_method_on_every_input(tmp_path):
    arguments = ["--sizes=4,8", "--conditions=1e2,1e4", "--repeats=1", "--steps=2"]
    arguments.append(f"--output={tmp_path}")
    must_succeed(finish("-m", "scripts.benchmark.roots", *arguments))
    results = json.loads((tmp_path / "roots.json").read_text())
    settings = results.pop("settings")
    assert settings["threads"] == 1
    assert settings["packages"]["torch"].startswith("2.")
    assert settings["packages"]["qm9pack"]  # which `make setup` puts apart
    rows_per_input = len(EXPONENTS) * len(METHODS)
    failures = root_inputs.failures(8)
    assert {name: len(rows) for name, rows in results.items()} == {
        "graded": 4 * rows_per_input,
        "trained": 6 * rows_per_input,
        "dampings": len(SWEEP) * rows_per_input,
        "failures": len(failures) * rows_per_input,
        "times": 4 * len(EXPONENTS) * sum(method.precision != "TF32" for method in METHODS),
        "products": len(POWERS) * len(DAMPINGS),
    }
    for row in results["graded"]:
        assert row["trusted"]
        limit = 2e-2 if "TF32" in row["method"] else 1e-3
        assert 0 < row["gradient_error"] < limit
        assert 0 < row["error"] < limit
    for row in results["failures"]:
        finite = row["input"] not in ("NaN", "infinity")
        assert row["repeated_trusted"] == finite
        assert (row["repeated_error"] is not None) == finite
        if row["input"] == "one eigenvalue -1e-4 lmax":
            assert row["trusted"] == ("eigh" in row["method"])
    assert all(row["milliseconds"]["median"] > 0 for row in results["times"])
    text = (tmp_path / "roots.md").read_text()
    assert text == report.roots(settings, results)
    assert text.count("\n## ") == 5 * len(EXPONENTS) + 1


@pytest.mark.parametrize(
    ("given", "integers", "message"),
    [
        (["4", "8.5"], True, "--sizes: 4,8.5 given; allowed: integers >= 2"),
        ([], False, "--sizes: nothing given; allowed: numbers >= 2"),
        (["1e2", "x"], False, "--sizes: 1e2,x given; allowed: numbers >= 2"),
        (["inf"], True, "--sizes: inf given; allowed: integers >= 2"),
    ],
)
def test_refuses_wrong_numbers(given, integers, message):
    with pytest.raises(UserError) as refused:
        cli.numbers("sizes", given, 2, integers)
    assert str(refused.value) == message


def test_inputs_come_with_their_exact_powers():
    inputs = [root_inputs.log_uniform(12, 1e3), *root_inputs.failures(12)]
    assert inputs[0].values[-1] / inputs[0].values[0] == pytest.approx(1e3)
    for given in inputs:
        assert given.matrix.dtype == torch.float32
        if not given.matrix.isfinite().all():
            continue
        matrix = given.matrix.double().numpy()
        expected = reference.inverse_root(matrix, 0.5, 1e-4)
        tolerance = 1e-3 * np.abs(expected).max()
        np.testing.assert_allclose(given.power(-0.5, 1e-4), expected, rtol=0, atol=tolerance)
    whitened = inputs[0].power(-0.5, 0.0) @ inputs[0].gradient()
    assert whitened.square().mean().sqrt().item() == pytest.approx(1, abs=0.2)


def test_a_cell_says_what_was_not_trusted_and_what_took_its_place():
    row = {
        "exponent": 0.5,
        "size": 4,
        "shape": "1 x 4²",
        "damping": 1e-6,
        "input": "one",
        "method": "some",
        "error": 0.012,
        "gradient_error": None,
        "trusted": False,
        "repeated_error": 3e-5,
        "repeated_trusted": True,
        "milliseconds": {"median": 1.5},
    }
    settings = {
        "device": "cpu",
        "cpu_model_name": "a machine",
        "threads": 1,
        "damping": 1e-6,
        "workload": "mnist_vit",
        "steps": 1,
        "packages": {"torch": "2"},
    }
    results = {name: [row] for name in ("graded", "trained", "dampings", "failures", "times")}
    results["products"] = [{"exponent": 0.5, "damping": 1e-6, "products": 3}]
    text = report.roots(settings, results)
    assert "| ✗ 1e-02 / – |" in text
    assert "| ✗ → 3e-05 |" in text
    final = {"repeated_trusted": False, "repeated_error": None}
    assert "| ✗ → ✗ " in report.roots(settings, results | {"failures": [row | final]})


def test_emulated_products_have_the_precision_of_tf32_and_no_less():
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 3, 64, 64, generator=generator).unbind()
    exact = left.double() @ right.double()
    with TensorFloat32():
        product = left @ right
        added = torch.baddbmm(right, left, right)
        double = left.double() @ right.double()
        sums = left + right
    assert torch.equal(double, exact)
    assert torch.equal(sums, left + right)
    assert torch.allclose(added - right, product, atol=1e-5)
    error = torch.linalg.norm(product.double() - exact) / torch.linalg.norm(exact)
    assert 1e-4 < error < 2**-10
