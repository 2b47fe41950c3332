"""Inverse roots against the reference, and on the inputs that break solvers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from submission.shampoo import reference, roots


def inverse_root(matrices, exponent, damping):
    root, scale, trusted = roots.inverse_root(matrices, exponent, damping)
    return scale.pow(-exponent) * root, trusted


def covariance(size, rank, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(size, rank, generator=generator, dtype=torch.float64)
    return (factor @ factor.T / rank).to(dtype)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 24),
    st.integers(1, 30),
    st.sampled_from([1.0, 0.5, 0.25, 1 / 3]),
    st.sampled_from([1e-3, 1e-2]),
    st.integers(0, 10**6),
)
def test_agrees_with_the_reference(size, rank, exponent, damping, seed):
    matrices = torch.stack([covariance(size, rank, seed + i) for i in range(3)])
    expected = np.stack([reference.inverse_root(m.numpy(), exponent, damping) for m in matrices])
    fast, trusted = inverse_root(matrices, exponent, damping)
    assert trusted.all()
    np.testing.assert_allclose(fast.numpy(), expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    single, trusted = inverse_root(matrices.float(), exponent, damping)
    assert trusted.all()
    np.testing.assert_allclose(single.numpy(), expected, rtol=0, atol=5e-3 * np.abs(expected).max())


def test_is_the_inverse_root():
    matrix = covariance(6, 20, 0)[None]
    root, _ = inverse_root(matrix, 0.25, 1e-12)
    identity = root @ root @ root @ root @ matrix
    assert torch.allclose(identity, torch.eye(6, dtype=torch.float64), atol=1e-8)


@pytest.mark.parametrize(
    "matrix",
    [
        torch.eye(8),
        torch.ones(8, 8),
        covariance(8, 3, 1, torch.float32),
        covariance(8, 3, 1, torch.float32) * 1e-30,
        covariance(8, 3, 1, torch.float32) * 1e30,
        covariance(8, 3, 1, torch.float32) - 1e-7 * torch.eye(8),
        torch.diag(torch.tensor([1.0, 1, 1, 1, 1e-6, 0, 0, 0])),
        torch.tensor([[3.0]]),
    ],
    ids=["identity", "rank one", "low rank", "tiny", "huge", "non-PSD", "diagonal", "1x1"],
)
@pytest.mark.parametrize("exponent", [0.25, 0.5])
def test_hard_inputs_give_finite_trusted_roots(matrix, exponent):
    root, trusted = inverse_root(matrix[None], exponent, 1e-6)
    assert trusted.all()
    assert root.isfinite().all()


def test_a_zero_matrix_counts_as_the_identity():
    root, trusted = inverse_root(torch.zeros(2, 5, 5), 0.25, 1e-6)
    assert trusted.all()
    assert torch.equal(root, torch.eye(5).repeat(2, 1, 1))


def test_scale_never_matters():
    matrix = covariance(6, 4, 3)[None]
    root, _ = inverse_root(matrix, 0.25, 1e-4)
    scaled, _ = inverse_root(matrix * 1e8, 0.25, 1e-4)
    assert torch.allclose(scaled * 1e2, root, rtol=1e-10)


def test_a_decomposition_that_does_not_reproduce_its_matrix_is_not_trusted(monkeypatch):
    def wrong(matrices):
        values, vectors = torch.linalg.eigh(matrices)
        values[0] *= 1.1
        return values, vectors

    monkeypatch.setattr(roots, "_eigh", wrong)
    _, trusted = inverse_root(torch.stack([covariance(5, 8, 0)] * 2), 0.25, 1e-6)
    assert trusted.tolist() == [False, True]


def test_a_solver_that_does_not_converge_leaves_the_matrix_untrusted(monkeypatch):
    def never(matrices):
        raise torch.linalg.LinAlgError("no convergence")

    monkeypatch.setattr(torch.linalg, "eigh", never)
    _, trusted = inverse_root(torch.stack([covariance(5, 8, 0)] * 2), 0.25, 1e-6)
    assert trusted.tolist() == [False, False]


def test_a_matrix_with_nan_is_not_trusted_and_does_not_spoil_its_neighbours():
    matrices = torch.stack([covariance(4, 8, 0), torch.full((4, 4), torch.nan).double()])
    root, trusted = inverse_root(matrices, 0.25, 1e-6)
    assert trusted.tolist() == [True, False]
    assert root[0].isfinite().all()
