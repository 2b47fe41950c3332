"""The eigendecomposition that checks its answers, where the solver underneath is made to fail."""

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from submission.shampoo import eigh


def covariances(count, size, rank, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(count, size, rank, generator=generator, dtype=torch.float64)
    return eigh.scale_to_unit(factors @ factors.mT)[0].to(dtype)


class Solver:
    """Stands for `torch.linalg.eigh`: answers through `answer`, and notes what it was asked."""

    genuine = staticmethod(torch.linalg.eigh)

    def __init__(self):
        self.answer = self.genuine
        self.shapes = []

    def __call__(self, matrices):
        self.shapes.append((matrices.dtype, len(matrices)))
        return self.answer(matrices)


@pytest.fixture
def calls(monkeypatch):
    solver = Solver()
    monkeypatch.setattr(torch.linalg, "eigh", solver)
    return solver


@settings(max_examples=25)
@given(st.integers(0, 4), st.integers(1, 24), st.integers(1, 30), st.integers(0, 10**6))
def test_agrees_with_numpy(count, size, rank, seed):
    matrices = covariances(count, size, rank, seed)
    values, vectors, _ = eigh.decompose(matrices)
    assert np.allclose(values, np.linalg.eigvalsh(matrices.numpy()), rtol=0, atol=1e-13)
    assert torch.allclose((vectors * values.unsqueeze(-2)) @ vectors.mT, matrices, atol=1e-13)
    single = eigh.decompose(matrices.float()).values
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), values, rtol=0, atol=2e-6)


@settings(max_examples=25)
@given(st.integers(2, 40), st.floats(1e-6, 0.5), st.integers(0, 10**6))
def test_checks_measure_the_errors_that_there_are(size, error, seed):
    """A few probes stand for the whole: what they measure is the error within a small factor."""
    matrices = covariances(3, size, size, seed)
    values, vectors = torch.linalg.eigh(matrices)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(values.shape, generator=generator, dtype=torch.float64)
    values = values + error * noise / torch.linalg.vector_norm(noise, dim=-1, keepdim=True)
    with mock.patch.object(torch.linalg, "eigh", lambda _: (values, vectors)):
        (_, _, residual), _ = eigh._eigh(matrices, torch.linalg.matrix_norm(matrices))
    wrong = (vectors * values.unsqueeze(-2)) @ vectors.mT - matrices
    expected = torch.linalg.matrix_norm(wrong) / torch.linalg.matrix_norm(matrices)
    assert (residual < 2.01 * expected).all()
    assert (residual > 0.05 * expected).all()
    skew = vectors + error * torch.randn(vectors.shape, generator=generator, dtype=torch.float64)
    gram = skew.mT @ skew - torch.eye(size)
    rows = torch.linalg.vector_norm(gram, dim=-1).amax(dim=-1)
    measured = eigh.non_orthonormality(skew)
    assert (measured < size**0.5 * 1.01 * rows).all()
    assert (measured > 0.05 * rows).all()


def test_what_does_not_converge_in_the_stack_is_solved_alone_in_float64(calls):
    def answer(matrices):
        if len(matrices) > 1:
            raise torch.linalg.LinAlgError("no convergence")
        return calls.genuine(matrices)

    calls.answer = answer
    matrices = covariances(3, 6, 6, 0, torch.float32)
    decomposition = eigh.decompose(matrices)
    assert calls.shapes == [(torch.float32, 3)] + [(torch.float64, 1)] * 3
    assert torch.allclose(decomposition.values, calls.genuine(matrices)[0], atol=1e-6)
    assert (decomposition.residual < 1e-6).all()
    assert decomposition.vectors.dtype == torch.float32


def test_only_what_is_wrong_is_solved_again(calls):
    def answer(matrices):
        values, vectors = calls.genuine(matrices)
        if matrices.dtype == torch.float32:
            values[1] *= 1.1
            vectors[3] *= 1.1
            values[3] /= 1.21
        return values, vectors

    calls.answer = answer
    matrices = covariances(5, 6, 6, 0, torch.float32)
    values, vectors, _ = eigh.decompose(matrices)
    assert calls.shapes == [(torch.float32, 5), (torch.float64, 1), (torch.float64, 1)]
    expected = calls.genuine(matrices)
    assert torch.allclose(values, expected[0], atol=1e-6)
    assert torch.allclose(vectors.mT @ vectors, torch.eye(6), atol=1e-5)


def test_what_fails_again_is_answered_by_nan(calls):
    def answer(matrices):
        if matrices.dtype == torch.float64:
            raise torch.linalg.LinAlgError("no convergence")
        values, vectors = calls.genuine(matrices)
        vectors[0] = torch.nan
        return values, vectors

    calls.answer = answer
    decomposition = eigh.decompose(covariances(2, 6, 6, 0, torch.float32))
    for result in decomposition:
        assert result[0].isnan().all()
        assert result[1].isfinite().all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_answered_by_nan_and_spoils_no_neighbour(calls, bad):
    matrices = covariances(3, 6, 6, 0, torch.float32)
    expected = eigh.decompose(matrices)
    broken = matrices.clone()
    broken[1, 2, 3] = bad
    calls.shapes.clear()
    decomposition = eigh.decompose(broken)
    assert len(calls.shapes) == 1
    assert broken[1, 2, 3].isfinite().logical_not()
    for result, undisturbed in zip(decomposition, expected, strict=True):
        assert result[1].isnan().all()
        assert torch.equal(result[[0, 2]], undisturbed[[0, 2]])


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1.0, 1e30, 1e38])
def test_scaled_matrices_are_in_range_whatever_they_were(scale):
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])  # whose rows add up to zero
    matrices = torch.stack([torch.eye(4), torch.outer(signs, signs), torch.zeros(4, 4)])
    scaled, bounds = eigh.scale_to_unit(matrices * scale)
    assert (scaled.abs().sum(-1) <= 1.2).all()
    assert (scaled[:2].abs().amax((-2, -1)) >= 0.2).all()
    assert (scaled[2] == 0).all()
    assert torch.allclose((scaled * bounds)[:2], matrices[:2] * scale, rtol=1e-6, atol=0)
