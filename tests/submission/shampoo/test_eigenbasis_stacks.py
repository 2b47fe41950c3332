"""Moments rotated between eigenbases; stacks of bases in a fixed number of operators."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from submission.shampoo import eigenbasis
from submission.shampoo.eigh import damped
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


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 8), st.integers(2, 8), st.integers(0, 1), st.integers(0, 10**6))
def test_matched_squares_have_the_sums_of_squares_in_the_new_basis(height, width, side, seed):
    """Of correlated gradients, too, of which a rotation of squares levels the sums."""
    spread = torch.logspace(0, -3, (height, width)[side], dtype=torch.float64)
    spread = spread[:, None] if side == 0 else spread
    turn = rotations(1, (height, width)[side], seed)[0]
    grads = spread * normal(40, height, width, seed=seed)
    grads = turn @ grads if side == 0 else grads @ turn.mT
    factor = (grads @ grads.mT if side == 0 else grads.mT @ grads).mean(dim=0, keepdim=True)
    bases = eigenbasis.eigenbasis(factor, torch.eye(factor.shape[-1], dtype=torch.float64)[None])
    to = bases.vectors[0].mT
    exact = (to @ grads if side == 0 else grads @ to.mT).square().mean(dim=0, keepdim=True)
    rotated = eigenbasis.rotate_second(
        grads.square().mean(dim=0, keepdim=True),
        *((to[None], None) if side == 0 else (None, to[None])),
    )
    matched = eigenbasis.match_eigenvalues(rotated, bases.values, side)
    sums = exact.sum(dim=2 - side)
    torch.testing.assert_close(matched.sum(dim=2 - side), sums, rtol=1e-6, atol=0)
    torch.testing.assert_close(bases.values, sums, rtol=1e-6, atol=0)
    errors = [(moment.sqrt() / exact.sqrt()).log().abs().mean() for moment in (matched, rotated)]
    assert errors[0] < errors[1]


def test_matching_is_damped_and_leaves_rows_of_zeros():
    moment = torch.tensor([[[4.0, 0.0], [2.0, 2.0], [0.0, 0.0]]])
    values = damped(torch.tensor([[3.0, -1e-9, -1e-9]]), 0.1)
    matched = eigenbasis.match_eigenvalues(moment, values, 0)
    # 3.3, 0.3 and 0.3 of the sum, which is 8.
    expected = torch.tensor([[[8 * 3.3 / 3.9, 0.0], [4 * 0.3 / 3.9] * 2, [0.0, 0.0]]])
    torch.testing.assert_close(matched, expected)


def stacks(count, device="cpu"):
    height, width = 6, 4
    return {
        "factor": covariances(count, height, 9).to(device),
        "basis": rotations(count, height).to(device),
        "moment": normal(count, height, width).abs().to(device),
        "right": rotations(count, width).to(device),
        "values": normal(count, height).square().sort(descending=True).values.to(device),
    }


CALLS = {
    "rotate_first": lambda s: eigenbasis.rotate_first(s["moment"], s["basis"], s["right"]),
    "rotate_second": lambda s: eigenbasis.rotate_second(s["moment"], s["basis"], s["right"]),
    "match_eigenvalues": lambda s: eigenbasis.match_eigenvalues(s["moment"], s["values"], 0),
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
    if name in ("rotate_first", "rotate_second", "match_eigenvalues"):
        assert not SYNCHRONISING & set(counts[0])


@pytest.mark.parametrize("name", [name for name in CALLS if name != "eigh"])
def test_off_the_cpu_nothing_is_read_by_the_host(name, monkeypatch):
    """Tensors of the meta device have no values: whoever reads one raises."""
    monkeypatch.setattr(eigenbasis, "is_true", lambda flag, otherwise: bool(flag))
    inputs = stacks(3, "meta")
    CALLS[name](inputs)
    with pytest.raises(RuntimeError, match="meta"):
        CALLS["eigh"](inputs)


@pytest.mark.parametrize(("limit", "expected"), [(2 * 6 * 6, 3), (6, 5)])
@pytest.mark.parametrize("name", [name for name in CALLS if name != "match_eigenvalues"])
def test_a_large_stack_is_worked_off_in_parts(name, limit, expected, monkeypatch):
    inputs = stacks(5)
    whole = CALLS[name](inputs)
    sizes = []
    genuine = eigenbasis._parts

    def noting(count, size):
        parts = list(genuine(count, size))
        sizes.append(len(parts))
        return parts

    monkeypatch.setattr(eigenbasis, "_MAX_ELEMENTS", limit)
    monkeypatch.setattr(eigenbasis, "_parts", noting)
    parts = CALLS[name](inputs)
    assert sizes == [expected]
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("name", CALLS)
def test_an_empty_stack_stays_empty(name):
    result = CALLS[name](stacks(0))
    for tensor in [result] if isinstance(result, torch.Tensor) else result:
        assert len(tensor) == 0
