"""Moments rotated between eigenbases; stacks of bases in a fixed number of operators."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from submission.shampoo import eigenbasis
from tests.submission.shampoo.operators import Operators
from tests.submission.shampoo.test_eigenbasis import (
    SYNCHRONISING,
    covariances,
    normal,
    rotations,
)

SIDES = st.sampled_from([(True, True), (True, False), (False, True), (False, False)])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 3), st.integers(1, 8), st.integers(1, 8), SIDES, st.integers(0, 10**6))
def test_carrying_agrees_with_numpy(count, height, width, sides, seed):
    moment = normal(count, height, width, seed=seed)
    left = rotations(count, height, seed + 1)
    right = rotations(count, width, seed + 2)
    lefts = left.numpy() if sides[0] else np.broadcast_to(np.eye(height), left.shape)
    rights = right.numpy() if sides[1] else np.broadcast_to(np.eye(width), right.shape)
    given_left, given_right = left if sides[0] else None, right if sides[1] else None

    first = np.einsum("nij,njk,nlk->nil", lefts, moment.numpy(), rights)
    carried = eigenbasis.rotate_first(moment, given_left, given_right)
    np.testing.assert_allclose(carried, first, rtol=0, atol=1e-12)
    norms = torch.linalg.matrix_norm(moment)
    torch.testing.assert_close(torch.linalg.matrix_norm(carried), norms)

    second = np.einsum("nij,njk,nlk->nil", lefts**2, moment.numpy() ** 2, rights**2)
    squares = eigenbasis.rotate_second(moment.square(), given_left, given_right)
    np.testing.assert_allclose(squares, second, rtol=0, atol=1e-12)
    assert (squares >= 0).all()
    torch.testing.assert_close(squares.sum((-2, -1)), norms.square())
    single = eigenbasis.rotate_second(
        moment.square().float(), *(t if t is None else t.float() for t in (given_left, given_right))
    )
    np.testing.assert_allclose(single, second, rtol=1e-4, atol=1e-5)


def test_carrying_through_a_permutation_permutes():
    moment = normal(1, 5, 3).abs()
    order = torch.tensor([3, 1, 4, 0, 2])
    change = torch.eye(5, dtype=torch.float64)[order][None]
    for rotate in (eigenbasis.rotate_first, eigenbasis.rotate_second):
        assert torch.equal(rotate(moment, change, None), moment[:, order])
        assert torch.equal(rotate(moment.mT, None, change), moment[:, order].mT)


def test_carried_squares_are_what_squares_in_the_new_basis_average_to():
    """For gradients uncorrelated in the old basis; otherwise V could not know."""
    deviations = normal(1, 6, 4).abs()
    left, right = rotations(1, 6, 1), rotations(1, 4, 2)
    samples = deviations * normal(50_000, 6, 4, seed=3)
    turned = (left @ samples @ right.mT).square().mean(dim=0, keepdim=True)
    carried = eigenbasis.rotate_second(deviations.square(), left, right)
    torch.testing.assert_close(carried, turned, rtol=0.05, atol=0)


def stacks(count, device="cpu"):
    height, width = 6, 4
    return {
        "factor": covariances(count, height, 9).to(device),
        "basis": rotations(count, height).to(device),
        "moment": normal(count, height, width).abs().to(device),
        "right": rotations(count, width).to(device),
    }


CALLS = {
    "rotate_first": lambda s: eigenbasis.rotate_first(s["moment"], s["basis"], s["right"]),
    "rotate_second": lambda s: eigenbasis.rotate_second(s["moment"], s["basis"], s["right"]),
    "qr": lambda s: eigenbasis.eigenbasis(s["factor"], s["basis"], "qr"),
    "cholesky_qr": lambda s: eigenbasis.eigenbasis(s["factor"], s["basis"], "cholesky_qr"),
    "eigh": lambda s: eigenbasis.eigenbasis(s["factor"], s["basis"], "eigh"),
}


@pytest.mark.parametrize("name", CALLS)
def test_operators_do_not_grow_with_the_stack(name):
    counts = []
    for count in (2, 17):
        inputs = stacks(count)
        with Operators() as operators:
            CALLS[name](inputs)
        counts.append(operators.counts)
    assert counts[0] == counts[1]
    if name in ("rotate_first", "rotate_second"):
        assert not SYNCHRONISING & set(counts[0])


@pytest.mark.parametrize("name", [name for name in CALLS if name != "eigh"])
def test_off_the_cpu_nothing_is_read_by_the_host(name):
    """Tensors of the meta device have no values: whoever reads one raises."""
    inputs = stacks(3, "meta")
    CALLS[name](inputs)
    with pytest.raises(RuntimeError, match="meta"):
        CALLS["eigh"](inputs)


@pytest.mark.parametrize("name", CALLS)
def test_a_large_stack_is_worked_off_in_parts(name, monkeypatch):
    inputs = stacks(5)
    whole = CALLS[name](inputs)
    sizes = []
    genuine = eigenbasis._parts

    def noting(count, size):
        parts = list(genuine(count, size))
        sizes.append(len(parts))
        return parts

    monkeypatch.setattr(eigenbasis, "_MAX_ELEMENTS", 2 * 6 * 6)
    monkeypatch.setattr(eigenbasis, "_parts", noting)
    parts = CALLS[name](inputs)
    assert sizes == [3]
    whole, parts = ([r] if isinstance(r, torch.Tensor) else r for r in (whole, parts))
    for result, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(result, other)


@pytest.mark.parametrize("name", CALLS)
def test_an_empty_stack_stays_empty(name):
    result = CALLS[name](stacks(0))
    for tensor in [result] if isinstance(result, torch.Tensor) else result:
        assert len(tensor) == 0


def test_parts_cover_the_stack_within_the_limit(monkeypatch):
    monkeypatch.setattr(eigenbasis, "_MAX_ELEMENTS", 100)
    for count in (1, 2, 7, 10):
        for size in (1, 9, 33, 100, 1000):
            parts = list(eigenbasis._parts(count, size))
            covered = [index for part in parts for index in range(*part.indices(count))]
            assert covered == list(range(count))
            most = max(len(range(*part.indices(count))) for part in parts)
            assert most * size <= 100 or most == 1
            assert len(parts) == math.ceil(count / max(1, 100 // size))
