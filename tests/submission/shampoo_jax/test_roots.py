"""Inverse roots by products in JAX: those of PyTorch, and eigh's; what fails is taken by eigh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from scripts.benchmark import root_inputs
from submission.plan.options import ShampooOptions
from submission.shampoo import roots as torch_roots
from submission.shampoo_jax import roots, solvers
from tests.submission.shampoo_jax.streams import double_precision

CASES = [(1, 1.0), (5, 0.5), (12, 1 / 3), (17, 0.25), (33, 0.25)]


def spectrum(size, condition):
    return root_inputs.log_uniform(size, condition).power(1.0, 0.0).numpy()


def arrays(result):
    return [np.asarray(part) for part in result]


@pytest.mark.parametrize(("size", "exponent"), CASES)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_are_those_of_pytorch_in_float64(size, exponent, scale):
    matrix = scale * spectrum(size, 1e4)
    expected = torch_roots.by_products(torch.from_numpy(matrix)[None], exponent, 1e-6)
    with double_precision():
        root, trusted = arrays(roots.by_products(jnp.asarray(matrix), exponent, 1e-6))
        by_eigh, _ = arrays(roots.inverse_root(jnp.asarray(matrix), exponent, 1e-6, "eigh"))
    assert trusted and expected.trusted.all()
    largest = np.abs(by_eigh).max()
    assert np.abs(root - expected.roots[0].numpy()).max() <= 1e-10 * largest
    assert np.abs(root - by_eigh).max() <= 1e-6 * largest  # by the estimate of the damping


@pytest.mark.parametrize("exponent", [1.0, 0.5, 1 / 3, 0.25])
@pytest.mark.parametrize("condition", [1e2, 1e6, 1e12])
def test_are_trusted_in_float32(exponent, condition):
    exact = spectrum(64, condition)
    root, trusted = arrays(roots.by_products(jnp.asarray(exact, jnp.float32), exponent, 1e-6))
    with double_precision():
        expected, _ = arrays(roots.inverse_root(jnp.asarray(exact), exponent, 1e-6))
    assert trusted
    error = np.linalg.norm(root - expected) / np.linalg.norm(expected)
    # The damping's, whose estimate is low by 2e-3 at most, and 1e-8 times the condition number.
    assert error <= 2e-3 + 1e-8 * min(condition, 1e6) * 2


def test_what_fails_is_taken_by_eigh():
    """An eigenvalue more negative than the damping makes up for lets the iteration diverge."""
    matrix = jnp.diag(jnp.array([1.0, 0.5, -0.2]))
    _, trusted = roots.by_products(matrix, 0.5, 1e-6)
    assert not trusted
    root, trusted = roots.inverse_root(matrix, 0.5, 1e-6, "products")
    assert trusted
    np.testing.assert_array_equal(root, roots.inverse_root(matrix, 0.5, 1e-6, "eigh")[0])
    assert not roots.inverse_root(matrix.at[0, 1].set(jnp.nan), 0.5, 1e-6, "products")[1]


def test_a_zero_matrix_is_the_identity():
    root, trusted = roots.by_products(jnp.zeros((3, 3)), 0.25, 1e-6)
    np.testing.assert_array_equal(root, np.eye(3))
    assert trusted


def test_auto_takes_products_on_an_accelerator(monkeypatch):
    options = ShampooOptions()
    assert solvers.root_solver(options, 0.25, 1e-6) == solvers.basis_solver(options) == "eigh"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert solvers.root_solver(options, 0.25, 1e-6) == "products"
    assert solvers.root_solver(options, 0.25, jnp.float32(1e-6)) == "eigh"
    assert solvers.root_solver(options, 0.3, 1e-6) == "eigh"
    assert solvers.basis_solver(options) == "cholesky_qr"
