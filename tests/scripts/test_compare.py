"""Comparisons: what runs after what, what ends a trial, the command line."""

import csv
import dataclasses
import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from common.cli import UserError
from scripts.compare import chain as compare_chain
from scripts.compare import table as compare_table
from scripts.compare import worker as compare_worker
from scripts.compare.chain import Outcome
from scripts.compare.plan import Variant
from scripts.local import entries, rivals, runner
from scripts.local import trial as trials
from scripts.local.curve import Curve
from scripts.local.metrics_log import read_evaluations
from scripts.local.trial import Trial
from submission.algoperf_api.pytorch_schedules import WarmupCosineLR
from tests.scripts.commands import finish
from tests.scripts.tiny_comparison import (
    GOOD,
    SETTINGS,
    TINY,
    WORKLOAD,
    TinyWorkload,
    Write,
    chain_of,
    comparison,
    following,
    pretend,
    rate_of,
)
from workloads import registry, search_space


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._ALL.maps[0], WORKLOAD, TINY)  # type: ignore[attr-defined]
    monkeypatch.setattr(registry, "load", lambda name, framework: TinyWorkload())


@pytest.fixture(autouse=True)
def threads_stay() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# What runs after what.


def test_a_rate_gets_fewer_steps_than_the_best_before_it_took(tmp_path: Path) -> None:
    chain = chain_of(tmp_path)
    first = following(chain)
    assert (rate_of(first), first.study, first.max_steps) == (0.1, 0, 40)
    pretend(chain, first, {5: 1.0, 20: 0.45, 21: 0.45})
    second = following(chain)
    assert (rate_of(second), second.study, second.max_steps) == (0.01, 0, 15)
    pretend(chain, second, {5: 0.9, 15: 0.44})
    third = following(chain)
    assert (rate_of(third), third.max_steps) == (1.0, 10)
    pretend(chain, third, {5: 0.9, 10: 0.8})
    for study in (1, 2):
        repeat = following(chain)
        assert (rate_of(repeat), repeat.study, repeat.max_steps) == (0.01, study, 40)
        assert chain.progress().chosen[0].steps_to_target == 15
        pretend(chain, repeat, {20: 0.4, 40: 0.46})
    assert chain.progress().following is None
    assert [outcome.steps_to_target for outcome in chain.progress().chosen] == [15, 20, 20]


def test_no_rate_is_tried_that_could_not_be_faster(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, seeds=1)
    pretend(chain, following(chain), {5: 0.3})
    assert chain.progress().following is None


def test_without_the_target_the_best_last_value_counts(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, seeds=2)
    for curve in ({5: 0.46, 40: 0.9}, {40: 0.6}, {40: math.nan}):
        trial = following(chain)
        assert trial.max_steps == 40
        pretend(chain, trial, curve)
    assert rate_of(following(chain)) == 0.01


def test_failed_trials_are_passed_over_until_forgotten(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, seeds=1)
    for index in range(3):
        last = following(chain)
        folder = last.directory(tmp_path)
        folder.mkdir(parents=True)
        (folder / "failure.json").write_text(json.dumps({"failure": f"reason {index}"}))
    assert chain.progress().following is None
    assert chain.progress().chosen == []
    assert [outcome.failure for outcome in chain.progress().searched] == [
        "reason 0",
        "reason 1",
        "reason 2",
    ]
    chain.forget_failures()
    assert rate_of(following(chain)) == 0.1
    (folder / "failure.json").write_text("[]")
    with pytest.raises(UserError, match=r"failure\.json names no failure; delete it"):
        compare_chain.outcome_of(last, tmp_path)


def test_files_of_other_settings_are_refused_or_overwritten(tmp_path: Path) -> None:
    chain = chain_of(tmp_path)
    pretend(chain, following(chain), {5: 1.0, 40: 1.0})
    changed = dataclasses.replace(SETTINGS, weight_decay=0.5)
    other = chain_of(tmp_path, settings=changed)
    with pytest.raises(UserError, match=r"--overwrite"):
        other.progress()
    other = dataclasses.replace(other, overwrite=True)
    assert rate_of(following(other)) == 0.1
    pretend_folder = following(other).directory(tmp_path)
    assert list(pretend_folder.iterdir()) == []


def test_a_trial_is_hopeless_at_half_the_leaders_pace(tmp_path: Path) -> None:
    trial = comparison().trial(Variant("a", "adamw"), WORKLOAD, 0, 0.1, 40)
    points = ((5, 0.9), (10, 0.7), (15, 0.8), (20, 0.5), (40, 0.46))
    leader = Outcome(trial, curve=Curve(TINY, points))

    def hopeless(trial: Trial, *curve: tuple[int, float]) -> bool:
        return compare_chain.is_hopeless(trial, Curve(TINY, curve), leader)

    assert not hopeless(trial)
    assert not hopeless(trial, (15, 2.0))
    assert hopeless(trial, (20, 0.71))
    assert not hopeless(trial, (20, 0.69))
    assert not hopeless(trial, (5, 0.69), (20, 2.0))  # its best value counts
    assert hopeless(trial, (30, 0.701))  # the leader's best in 15 steps was 0.7
    assert hopeless(trial, (40, math.nan))
    assert not compare_chain.is_hopeless(trial, Curve(TINY, ((20, 9.0),)), None)
    assert not hopeless(dataclasses.replace(trial, study=1), (40, 9.0))


def test_near_is_on_the_worse_side() -> None:
    assert compare_chain.near(0.5, TINY) == pytest.approx(0.505)
    upward = dataclasses.replace(TINY, direction="max")
    assert compare_chain.near(0.5, upward) == pytest.approx(0.495)
    assert compare_chain.near(None, upward) is None


# Trials.


def test_a_chain_trains_to_the_target_and_is_not_repeated(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, learning_rates=(0.01, 0.3), seeds=2)
    assert compare_worker.run(chain, {}) == 0
    slow, fast = chain.progress().searched
    assert slow.steps_to_target is None and slow.steps == 40
    assert fast.steps_to_target is not None and fast.steps_to_target < 40
    assert fast.final <= 0.45 and fast.steps == fast.steps_to_target
    assert [rate_of(outcome.trial) for outcome in chain.progress().chosen] == [0.3, 0.3]
    assert all(outcome.milliseconds_per_step > 0 for outcome in [slow, *chain.progress().chosen])
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert compare_worker.run(chain, {}) == 0
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert not list(tmp_path.rglob(trials.CHECKPOINT))


def test_a_variant_trains_as_the_entry_does(tmp_path: Path) -> None:
    trial = comparison().trial(Variant("adamw", "adamw"), WORKLOAD, 0, 0.01, 40)
    point = {
        "learning_rate": 0.01,
        "one_minus_beta1": 1 - 0.9,
        "one_minus_beta2": 1 - 0.99,
        "weight_decay": 0.01,
        "warmup_factor": 0.1,
    }
    entry = dataclasses.replace(trial, hyperparameters=point)
    losses = []
    for run, load in ((trial, lambda name: compare_worker.Submission), (entry, entries.load)):
        folder = tmp_path / str(len(losses))
        folder.mkdir()
        runner.run_trial(run, folder, math.inf, runner.Hooks(), load)
        losses.append([row["validation/loss"] for row in read_evaluations(folder)])
    assert len(losses[0]) == 8
    assert losses[0] == losses[1]


def test_a_constant_schedule_warms_up_and_stays(tmp_path: Path) -> None:
    variant = Variant("adamw", "adamw", schedule="constant")
    chain = chain_of(tmp_path, variant, learning_rates=(0.01,), seeds=1)
    trial = following(chain)
    weights = nn.Linear(2, 2)
    point = search_space.as_namedtuple(trial.hyperparameters)
    state = compare_worker.init_optimizer_state(TinyWorkload(), weights, None, point, None)
    rates = []
    for _ in range(40):
        rates.append(state["optimizer"].param_groups[0]["lr"])
        state["optimizer"].step()
        state["scheduler"].step()
    # Four steps of 40 are warm-up.
    assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert set(rates[4:]) == {0.01}
    assert compare_worker.run(chain, {}) == 0
    (outcome,) = chain.progress().chosen
    assert outcome.steps == 40 or outcome.steps_to_target is not None


def test_a_cosine_is_recorded_as_before(tmp_path: Path) -> None:
    trial = comparison().trial(Variant("adamw", "adamw"), WORKLOAD, 0, 0.01, 40)
    assert "schedule" not in trial.hyperparameters
    point = search_space.as_namedtuple(trial.hyperparameters)
    state = compare_worker.init_optimizer_state(TinyWorkload(), nn.Linear(2, 2), None, point, None)
    assert isinstance(state["scheduler"], WarmupCosineLR)


def optimizers(monkeypatch: pytest.MonkeyPatch, **makes: Any) -> None:
    available = {
        name: rivals.Rival(name, "here", make, lambda step, interval: False)
        for name, make in makes.items()
    }
    monkeypatch.setattr(rivals, "available", lambda: available)


def test_failures_are_recorded_and_end_no_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fragile(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            if self.param_groups[0]["initial_lr"] > 0.05:
                raise ArithmeticError("the root\nexploded")
            return super().step(closure)

    def make(params: Any, options: rivals.RivalOptions) -> torch.optim.Optimizer:
        return Fragile(params, lr=options.lr)

    optimizers(monkeypatch, fragile=make)
    chain = chain_of(tmp_path, Variant("fragile", "fragile"), seeds=2)
    assert compare_worker.run(chain, {}) == 1
    failures = [outcome.failure for outcome in chain.progress().searched]
    assert failures == ["ArithmeticError: the root", "", "ArithmeticError: the root"]
    assert [rate_of(outcome.trial) for outcome in chain.progress().chosen] == [0.01, 0.01]
    (row,) = compare_table.rows_of([chain])
    assert (row.failures, row.seeds, row.reached) == ("ArithmeticError: the root", 2, 0)

    missing = chain_of(tmp_path, Variant("lion", "lion"))
    assert compare_worker.run(missing, {}) == 1
    (row,) = compare_table.rows_of([missing])
    assert row.seeds == 0 and "no optimizer 'lion' here" in row.failures
    assert "failed" in compare_table.markdown([row])


def test_a_value_that_is_not_finite_ends_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for weight in self.param_groups[0]["params"]:
                weight.data.fill_(math.nan)
            return super().step(closure)

    optimizers(monkeypatch, broken=lambda params, options: Broken(params, lr=options.lr))
    chain = chain_of(tmp_path, Variant("broken", "broken"), seeds=2, learning_rates=(0.1,))
    assert compare_worker.run(chain, {}) == 0
    (outcome,) = chain.progress().searched
    assert outcome.steps == 5
    assert math.isnan(outcome.final) and math.isnan(outcome.best)
    assert chain.progress().chosen == []


def test_options_replace_settings_and_reach_ours_alone() -> None:
    seen: list[rivals.RivalOptions] = []

    def point(optimizer: str, **options: Any) -> Any:
        plan = comparison(Variant("x", optimizer, options))
        trial = plan.trial(plan.variants[0], WORKLOAD, 0, 0.1, 40)
        return search_space.as_namedtuple(trial.hyperparameters)

    def make(params: Any, options: rivals.RivalOptions) -> torch.optim.Optimizer:
        seen.append(options)
        return torch.optim.SGD(params)

    weights = [nn.Parameter(torch.zeros(2, 2))]
    with pytest.MonkeyPatch.context() as patch:
        optimizers(patch, ours_x=make, other=make)
        given = {"betas": [0.5, 0.6], "refresh_interval": 3, "root_dtype": "bfloat16"}
        compare_worker.make_optimizer(weights, point("ours_x", **given, damping=0.1))
        compare_worker.make_optimizer(weights, point("other", eps=0.5))
        with pytest.raises(ValueError, match="no option 'damping'"):
            compare_worker.make_optimizer(weights, point("other", damping=0.1))
    shampoo, other = seen
    assert (shampoo.lr, shampoo.betas) == (0.1, (0.5, 0.6))
    assert (shampoo.interval, shampoo.block_size) == (3, 64)
    assert shampoo.shampoo_options == {"root_dtype": torch.bfloat16, "damping": 0.1}
    assert (other.betas, other.interval, other.eps) == ((0.9, 0.99), 5, 0.5)
    assert other.shampoo_options == {}


# The command line.


def command(*flags: str) -> "subprocess.CompletedProcess[str]":
    return finish("-m", "scripts.compare", *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--learning_rates=0.1,fast"], "'fast' is not a positive number"),
        (["--learning_rates=0.1", "--baseline=c"], "unknown variant 'c'; known: a"),
        (["--learning_rates=0.1", "--budget_factor=0.001"], "no step on flights_dlrm"),
    ],
)
def test_mistakes_end_in_one_line(
    tmp_path: Path, write_json: Write, flags: list[str], message: str
) -> None:
    path = write_json("variants.json", GOOD)
    given = [f"--variants={path}", f"--output={tmp_path / 'out'}", "--workloads=flights_dlrm"]
    done = command(*given, *flags)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_comparison_runs_resumes_and_writes_its_tables(tmp_path: Path, write_json: Write) -> None:
    path = write_json("variants.json", GOOD)
    output = tmp_path / "out"
    flags = [
        f"--variants={path}",
        "--workloads=flights_dlrm",
        "--learning_rates=0.01",
        "--seeds=1",
        "--budget_factor=0.02",
        f"--output={output}",
    ]
    assert "to run    a on flights_dlrm" in command(*flags, "--dry_run").stdout
    assert not output.exists()
    done = command(*flags)
    assert done.returncode == 0, done.stderr
    with (output / "compare.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert (row["variant"], row["steps"], row["learning_rate"]) == ("a", "-", "0.01")
    assert float(row["milliseconds_per_step"]) > 0
    invocations = json.loads((output / "manifest.json").read_text())["invocations"]
    assert [invocation["outcome"] for invocation in invocations] == ["complete"]
    assert "complete  a on flights_dlrm" in command(*flags, "--dry_run").stdout
