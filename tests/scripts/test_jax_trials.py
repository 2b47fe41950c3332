"""Trials of entries in JAX: where their logs go, that they resume bitwise, what is refused."""

import dataclasses
from pathlib import Path

import pytest

from common.cli import UserError
from scripts.local import checkpoint, entries, entry_info
from scripts.local.metrics_log import read_evaluations
from scripts.local.runner import Hooks, Stopped, run_trial
from scripts.local.trial import Trial
from tests.scripts.test_real_resume import metrics
from workloads import registry, search_space


def trial_of(workload: str, entry: str, **settings: object) -> Trial:
    point = search_space.point(entries.standin_points_file(entry), 1)
    point |= {"dropout_rate": 0.1, "refresh_interval": 10} if "shampoo" in entry else {}
    return Trial(workload, entry, 0, 1, point, framework="jax", **settings)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workload", "entry"), [("mnist_resnet", "adamw_jax"), ("flights_dlrm", "shampoo_jax")]
)
def test_a_trial_resumes_bitwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workload: str, entry: str
) -> None:
    pytest.importorskip("jax", reason="JAX is not installed: requirements-jax.txt")
    facts = dataclasses.replace(registry.facts(workload), max_runtime_seconds=10**9)
    monkeypatch.setitem(registry._ALL, workload, facts)
    trial = trial_of(workload, entry, max_steps=24, ignore_targets=True)

    def run(folder: Path, hooks: Hooks) -> None:
        folder.mkdir(exist_ok=True)
        run_trial(trial, folder, checkpoint_period_seconds=1e9, hooks=hooks)

    run(tmp_path / "whole", Hooks())
    asked = iter([False] * 10 + [True])
    with pytest.raises(Stopped):
        run(tmp_path / "resumed", Hooks(stop_requested=lambda: next(asked)))
    snapshot = checkpoint.load(tmp_path / "resumed" / "checkpoint.pt")
    assert snapshot["global_step"] == 11
    run(tmp_path / "resumed", Hooks())
    whole, resumed = (metrics(tmp_path / name) for name in ("whole", "resumed"))
    assert read_evaluations(tmp_path / "whole")[-1]["global_step"] == 24
    assert whole == resumed


def test_logs_are_in_a_folder_of_the_framework(tmp_path: Path) -> None:
    folder = trial_of("mnist_vit", "adamw_jax").directory(tmp_path)
    assert folder == tmp_path / "adamw_jax/study_0/mnist_vit_jax/trial_1"


def test_an_entry_says_its_framework_and_has_its_twin_s_points() -> None:
    frameworks = entries.frameworks(["shampoo", "shampoo_jax", "nesterov"])
    assert frameworks == {"shampoo": "pytorch", "shampoo_jax": "jax", "nesterov": "pytorch"}
    assert entries.points("shampoo_jax") == entries.points("shampoo")
    assert entry_info.framework(entries.folder("adamw_jax")) == "jax"
    entries.check_frameworks(frameworks, None)
    with pytest.raises(UserError, match=r"--framework=jax: entry 'shampoo' is in pytorch; in jax"):
        entries.check_frameworks({"shampoo": "pytorch"}, "jax")
