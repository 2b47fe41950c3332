"""Sizes of checkpoints, against states of optimizers, and memory, from files as the kernel's."""

import math
from types import SimpleNamespace

import pytest
import torch

from scripts.benchmark import model_shapes
from scripts.local.trial import Trial
from scripts.official.resources import available_gb, checkpoint_gb, trial_gb
from submission.entries.shampoo.options import MAX_DIM
from submission.shampoo import Shampoo
from tests.scripts.official.fakes import GOOD, make_entry, make_trial
from workloads import registry


def test_a_table_of_a_million_rows_has_moments_alone():
    # Weights and two moments of 539 million numbers, and next to nothing for the small matrices.
    assert checkpoint_gb("criteo1tb", momentum=False) == pytest.approx(6.5, abs=0.1)
    assert checkpoint_gb("criteo1tb", momentum=True) == pytest.approx(8.6, abs=0.1)


def test_without_shapes_twelve_numbers_per_weight():
    assert checkpoint_gb("mnist", momentum=False) == pytest.approx(4 * 12 * 101_770 / 1e9)


def test_momentum_is_that_of_the_point(tmp_path):
    def size(**point):
        trial = make_trial(tmp_path / "toy", trial=Trial("criteo1tb", "toy", 0, 1, point))
        return trial_gb(trial)

    make_entry(tmp_path / "toy", [GOOD])
    assert size() == size(momentum=0.0) < 7 < 8 < size(momentum=0.5)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_it_is_what_the_optimizer_saves(monkeypatch, momentum):
    sizes = [(300, 40), (300,), (64, 8, 3, 3), (1030, 200), (1030, 5), (MAX_DIM + 1, 2)]
    shapes = {str(number): size for number, size in enumerate(sizes)}
    monkeypatch.setattr(model_shapes, "shapes", lambda name: shapes)
    parameters = [torch.nn.Parameter(torch.ones(shape)) for shape in shapes.values()]
    optimizer = Shampoo(parameters, momentum=momentum, nesterov=True, max_dim=MAX_DIM)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = optimizer.state_dict()["state"].values()
    saved = sum(
        value.numel() for entry in state for value in entry.values() if torch.is_tensor(value)
    )
    numbers = sum(math.prod(shape) for shape in shapes.values())
    checkpoint_gb.cache_clear()
    size = checkpoint_gb("ogbg", momentum=momentum > 0)
    checkpoint_gb.cache_clear()
    weights = registry.official("ogbg").model.parameters
    ratio = size / (4 * weights / 1e9) / ((saved + numbers) / numbers)
    assert ratio == pytest.approx(1, rel=0.01)  # but for counters of blocks


GB = 10**9
GROUPS = "5:cpu,cpuacct:/a\n4:memory:/docker/abc\n1:name=systemd:/\n0::/\n"


@pytest.mark.parametrize(
    ("files", "gb"),
    [
        ({}, 64),
        ({"proc/self/cgroup": "0::/a/b/c\n", "sys/fs/cgroup/a/b/c/memory.max": "max\n"}, 64),
        (
            {
                "proc/self/cgroup": "0::/a/b/c\n",
                "sys/fs/cgroup/a/b/memory.max": f"{2 * GB}\n",
                "sys/fs/cgroup/a/memory.max": f"{8 * GB}\n",
                "sys/fs/cgroup/a/other/memory.max": "1\n",  # of another process
            },
            2,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{128 * GB}\n"}, 64),
        # The first version of control groups; a container sees its own group as the root.
        (
            {
                "proc/self/cgroup": GROUPS,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            64,
        ),
        (
            {
                "proc/self/cgroup": GROUPS,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{3 * GB}\n",
            },
            3,
        ),
    ],
)
def test_the_lowest_limit_around_the_process_counts(tmp_path, monkeypatch, files, gb):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=64 * GB))
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert available_gb(tmp_path) == gb
