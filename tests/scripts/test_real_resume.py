"""Real workloads under real entries: stopped between two evaluations, then resumed."""

import csv
import dataclasses

import pytest

from scripts.local import checkpoint, entries
from scripts.local.metrics_log import read_evaluations
from scripts.local.runner import Hooks, Stopped, run_trial
from scripts.local.trial import Trial
from workloads import registry

LAST_STEP, STOPPED_AT = 33, 26


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workload", "entry"),
    [("mnist_vit", "shampoo"), ("mnist_resnet", "adamw_jax"), ("flights_dlrm", "shampoo_jax")],
)
def test_a_trial_resumes_bitwise_with_dropout(tmp_path, monkeypatch, workload, entry):
    framework = entries.frameworks([entry])[entry]
    if framework == "jax":
        pytest.importorskip("jax", reason="JAX is not installed: requirements-jax.txt")
    facts = dataclasses.replace(registry.facts(workload), max_runtime_seconds=10**9)
    monkeypatch.setitem(registry._ALL, workload, facts)
    point = entries.points(entry)[0]
    point |= {"dropout_rate": 0.1, "refresh_interval": 10} if "shampoo" in entry else {}
    limits = {"max_steps": LAST_STEP, "ignore_targets": True}
    trial = Trial(workload, entry, 0, 1, point, framework=framework, **limits)

    whole, resumed = metrics_of_whole_and_resumed(trial, tmp_path, STOPPED_AT)
    steps = [row["global_step"] for row in read_evaluations(tmp_path / "whole")]
    assert steps[0] < STOPPED_AT and steps[-1] == LAST_STEP
    assert {int(row["global_step"]) for row in whole if row["grad_norm"]} >= {0, steps[0]}
    assert whole == resumed


def metrics_of_whole_and_resumed(trial, root, stopped_at):
    """`metrics` of a trial, and of the same stopped after so many steps and then resumed."""

    def run(name, hooks):
        (root / name).mkdir(exist_ok=True)
        run_trial(trial, root / name, checkpoint_period_seconds=1e9, hooks=hooks)

    run("whole", Hooks())
    asked = iter([False] * (stopped_at - 1) + [True])
    with pytest.raises(Stopped):
        run("resumed", Hooks(stop_requested=lambda: next(asked)))
    assert checkpoint.load(root / "resumed" / "checkpoint.pt")["global_step"] == stopped_at
    seen = []
    run("resumed", Hooks(started=lambda count, step: seen.append((count, step))))
    assert seen == [(1, stopped_at)]
    return [metrics(root / name) for name in ("whole", "resumed")]


def metrics(folder):
    """What training and evaluation logged, digit by digit, without what a clock measured."""
    with (folder / "measurements.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    clocks = {"score", "total_duration", "preemption_count"}
    return [
        {k: v for k, v in row.items() if k not in clocks and not k.startswith("accumulated_")}
        for row in rows
    ]
