"""The warm-up and cosine schedule."""

import io
import itertools
import math

import pytest
import torch

from submission.algoperf_api.schedules import WarmupCosineLR


def make(*arguments):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    return optimizer, WarmupCosineLR(optimizer, *arguments)


def rates(total_steps, warmup_fraction, steps, seconds=math.inf, seconds_per_step=0.0):
    optimizer, scheduler = make(total_steps, warmup_fraction, seconds)
    seen = []
    for step in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.observe((step + 1) * seconds_per_step)
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


def test_enough_time_changes_nothing():
    assert rates(20, 0.25, 30, seconds=20.0, seconds_per_step=1.0) == rates(20, 0.25, 30)


def test_too_little_time_shortens_the_decay_and_not_the_warm_up():
    seen = rates(20, 0.25, 14, seconds=10.0, seconds_per_step=1.0)
    assert seen[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    falling = seen[4:11]
    assert all(later < earlier for earlier, later in itertools.pairwise(falling))
    assert seen[9] > 0
    assert seen[10:] == [0.0] * 4


def test_a_slow_start_delays_nothing_once_it_is_caught_up_with():
    optimizer, scheduler = make(100, 0.0, 200.0)
    seen = []
    for step in range(100):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.observe(40 + step)
        scheduler.step()
    late = slice(50, None)
    assert seen[late] == rates(100, 0.0, 100)[late]
    assert seen[1] < rates(100, 0.0, 2)[1]


def test_its_state_loads_safely_and_remembers_the_time():
    optimizer, scheduler = make(20, 0.25, 10.0)
    for step in range(7):
        optimizer.step()
        scheduler.observe(float(step))
        scheduler.step()
    saved = io.BytesIO()
    torch.save([optimizer.state_dict(), scheduler.state_dict()], saved)
    saved.seek(0)
    other, resumed = make(20, 0.25, 10.0)
    for part, state in zip((other, resumed), torch.load(saved, weights_only=True), strict=True):
        part.load_state_dict(state)
    for each, schedule in ((optimizer, scheduler), (other, resumed)):
        each.step()
        schedule.step()
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] > 0
    fresh, unaware = make(20, 0.25, 10.0)
    for _ in range(8):
        fresh.step()
        unaware.step()
    assert other.param_groups[0]["lr"] < fresh.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("total", "fraction", "seconds"), [(0, 0.1, 1), (10, 1.0, 1), (10, -0.1, 1), (10, 0.1, 0)]
)
def test_bad_arguments_are_refused(total, fraction, seconds):
    with pytest.raises(ValueError, match="must be"):
        rates(total, fraction, 1, seconds)
