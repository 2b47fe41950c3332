"""A real workload under the real Shampoo entry: stopped between two evaluations, then resumed."""

import csv
from pathlib import Path

import pytest

from scripts.local import checkpoint, entries
from scripts.local.metrics_log import read_evaluations
from scripts.local.runner import Hooks, Stopped, run_trial
from scripts.local.trial import Trial
from workloads import search_space

LAST_STEP, STOPPED_AT = 45, 27


@pytest.mark.slow
def test_shampoo_resumes_bitwise_with_dropout(tmp_path: Path) -> None:
    point = search_space.point(entries.standin_points_file("shampoo"), 1)
    point |= {"dropout_rate": 0.1, "refresh_interval": 10}
    trial = Trial("mnist_vit", "shampoo", 0, 1, point, max_steps=LAST_STEP, ignore_targets=True)

    def run(folder: Path, hooks: Hooks) -> None:
        folder.mkdir(exist_ok=True)
        run_trial(trial, folder, checkpoint_period_seconds=1e9, hooks=hooks)

    run(tmp_path / "whole", Hooks())
    asked = iter([False] * (STOPPED_AT - 1) + [True])
    with pytest.raises(Stopped):
        run(tmp_path / "resumed", Hooks(stop_requested=lambda: next(asked)))
    snapshot = checkpoint.load(tmp_path / "resumed" / "checkpoint.pt")
    assert snapshot["global_step"] == STOPPED_AT
    seen: list[tuple[int, int]] = []
    run(tmp_path / "resumed", Hooks(started=lambda count, step: seen.append((count, step))))
    assert seen == [(1, STOPPED_AT)]

    whole, resumed = (metrics(tmp_path / name) for name in ("whole", "resumed"))
    assert [row["global_step"] for row in read_evaluations(tmp_path / "whole")] == [20, 40, 45]
    assert {row["global_step"] for row in whole if row["grad_norm"]} >= {"0", "20", "40"}
    assert whole == resumed


def metrics(folder: Path) -> list[dict[str, str]]:
    """What training and evaluation logged, digit by digit, without what a clock measured."""
    with (folder / "measurements.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    clocks = {"score", "total_duration", "preemption_count"}
    return [
        {k: v for k, v in row.items() if k not in clocks and not k.startswith("accumulated_")}
        for row in rows
    ]
