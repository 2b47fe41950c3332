"""The warm-up and cosine schedule."""

import io
import itertools
import math
import types

import pytest
import torch

from submission.algoperf_api import schedules
from submission.algoperf_api.pytorch_schedules import WarmupCosineLR


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


def test_rises_to_the_peak_then_falls_along_torchs_cosine_to_zero_and_stays_there():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=15)
    falling = []
    for _ in range(15):
        falling.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    seen = rates(20, 0.25, 30)
    assert seen == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, *falling, *[0.0] * 10])
    assert rates(20, 0.25, 30, seconds=20.0, seconds_per_step=1.0) == seen, "enough time"
    assert rates(1, 0.0, 2, seconds=0.5) == [2.0, 0.0]


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
    for part in (optimizer, scheduler, other, resumed):
        part.step()
    rate = other.param_groups[0]["lr"]
    assert rate == optimizer.param_groups[0]["lr"] > 0
    assert rate < rates(20, 0.25, 9)[8], "which a schedule that has seen no clock is at"


@pytest.mark.parametrize(
    ("total", "fraction", "seconds"), [(0, 0.1, 1), (10, 1.0, 1), (10, -0.1, 1), (10, 0.1, 0)]
)
def test_bad_arguments_are_refused(total, fraction, seconds):
    with pytest.raises(ValueError, match="must be"):
        rates(total, fraction, 1, seconds)


@pytest.mark.parametrize("absent", [{}, {"step_hint_factor": None, "budget_factor": None}])
def test_a_schedule_without_factors_has_the_hint_s_length_and_no_bound(absent):
    workload = types.SimpleNamespace(step_hint=81, max_allowed_runtime_sec=50)
    point = types.SimpleNamespace(warmup_factor=0.1, **absent)
    assert schedules.lengths(workload, point) == schedules.Lengths(81, 0.1, math.inf)
    vars(point).update(step_hint_factor=0.5, budget_factor=0.2)
    assert schedules.lengths(workload, point) == schedules.Lengths(40, 0.1, 10.0)
    vars(point).update(step_hint_factor=0.0)
    assert schedules.lengths(workload, point).total_steps == 0, "which is refused later"
