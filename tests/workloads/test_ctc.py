import numpy as np
import pytest
import torch

from tests.workloads.naive_ctc import (
    collapsed,
    enumerated_ctc_loss,
    naive_ctc_loss,
    naive_edit_distance,
)
from workloads.standin.ctc import ctc_losses, edit_distances, frames_needed, greedy_decode


def random_symbols(rows, longest, symbols, seed):
    """Rows of 0 to `longest` symbols from 1 on, as lists and as a table filled up with zeros."""
    generator = np.random.default_rng(seed)
    lists = [
        generator.integers(1, symbols, generator.integers(longest + 1)).tolist()
        for _ in range(rows)
    ]
    return lists, torch.tensor([row + [0] * (longest - len(row)) for row in lists])


def test_losses_sum_over_every_alignment():
    lists, targets = random_symbols(40, 3, 4, seed=0)
    logits = torch.randn(40, 5, 4, generator=torch.Generator().manual_seed(0))
    losses = ctc_losses(logits, targets)
    enumerated = [
        enumerated_ctc_loss(frames.double().numpy(), row)
        for frames, row in zip(logits, lists, strict=True)
    ]
    assert any(row[:1] == row[1:2] for row in lists if row), "no symbol is repeated"
    np.testing.assert_allclose(losses.numpy(), enumerated, rtol=1e-5)
    # The reference that is fast enough for the workloads' own sizes says the same.
    recursive = [
        naive_ctc_loss(frames.double().numpy(), np.array(row, dtype=int))
        for frames, row in zip(logits, lists, strict=True)
    ]
    np.testing.assert_allclose(recursive, enumerated, rtol=1e-9)


def test_a_target_that_frames_cannot_hold_has_no_finite_loss():
    targets = torch.tensor([[1, 1], [1, 2]])
    logits = torch.zeros(2, 2, 3)
    assert torch.isinf(ctc_losses(logits, targets)).tolist() == [True, False]
    assert frames_needed(targets).tolist() == [3, 2]
    assert torch.isfinite(ctc_losses(torch.zeros(2, 3, 3), targets)).all()


def test_frames_that_are_certainly_blank_change_no_loss_and_get_no_gradient():
    _, targets = random_symbols(20, 3, 5, seed=1)
    logits = torch.randn(20, 6, 5, generator=torch.Generator().manual_seed(1))
    beyond = torch.full((20, 4, 5), -1e4)
    beyond[..., 0] = 0
    longer = torch.cat([logits, beyond], 1).requires_grad_()
    losses = ctc_losses(longer, targets)
    torch.testing.assert_close(losses, ctc_losses(logits, targets))
    losses.sum().backward()
    assert longer.grad[:, :6].abs().sum() > 0
    torch.testing.assert_close(longer.grad[:, 6:], torch.zeros(20, 4, 5), rtol=0, atol=1e-5)


def test_greedy_decoding_merges_repeats_and_then_drops_blanks():
    generator = np.random.default_rng(2)
    paths = generator.integers(0, 3, (200, 9))
    decoded = greedy_decode(torch.nn.functional.one_hot(torch.from_numpy(paths), 3).float())
    assert decoded.shape == paths.shape
    for row, path in zip(decoded.tolist(), paths.tolist(), strict=True):
        expected = collapsed(path)
        assert row == expected + [0] * (9 - len(expected))


@pytest.mark.parametrize("symbols", [3, 6])
def test_edit_distances_equal_the_definition(symbols):
    decoded, decoded_table = random_symbols(150, 6, symbols, seed=3)
    targets, target_table = random_symbols(150, 5, symbols, seed=4)
    pairs = zip(decoded, targets, strict=True)
    expected = [naive_edit_distance(tuple(a), tuple(b)) for a, b in pairs]
    assert edit_distances(decoded_table, target_table).tolist() == expected
    assert edit_distances(target_table, decoded_table).tolist() == expected
