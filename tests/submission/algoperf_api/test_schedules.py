"""The warm-up and cosine schedule."""

import itertools

import pytest
import torch

from submission.algoperf_api.schedules import warmup_cosine


def rates(total_steps, warmup_fraction, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = warmup_cosine(optimizer, total_steps, warmup_fraction)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_rises_to_the_peak_then_falls_to_zero_and_stays_there():
    seen = rates(20, 0.25, 30)
    assert seen[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert max(seen) == pytest.approx(2.0)
    falling = seen[5:21]
    assert all(later < earlier for earlier, later in itertools.pairwise(falling))
    assert seen[20:] == pytest.approx([0.0] * 10)


def test_agrees_with_torchs_cosine_after_the_warm_up():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=15)
    expected = []
    for _ in range(15):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    assert rates(20, 0.25, 20)[5:] == pytest.approx(expected)


@pytest.mark.parametrize(("total", "fraction"), [(0, 0.1), (10, 1.0), (10, -0.1)])
def test_bad_arguments_are_refused(total, fraction):
    with pytest.raises(ValueError, match="must be"):
        rates(total, fraction, 1)
