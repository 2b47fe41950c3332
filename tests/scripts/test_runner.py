"""The clock, the end of a trial, and resuming it bitwise."""

import csv
import dataclasses

import pytest
import torch

from common.cli import UserError
from scripts.local import checkpoint, trial_state
from scripts.local.metrics_log import MetricsLog, read_evaluations
from scripts.local.runner import Hooks, Stopped, run_trial
from scripts.local.trial import Trial, read_status
from workloads import registry

TRIAL = Trial("fake", "fake_sgd", study=0, trial=1, hyperparameters={"learning_rate": 0.005})
NO_TARGETS = dataclasses.replace(TRIAL, ignore_targets=True)

pytestmark = pytest.mark.usefixtures("fakes")


def run(trial, folder, hooks=None):
    folder.mkdir(exist_ok=True)
    return run_trial(trial, folder, checkpoint_period_seconds=0.0, hooks=hooks or Hooks())


def rows(path, column):
    with path.open() as stream:
        table = list(csv.DictReader(stream))
    return [(row["global_step"], row[column]) for row in table if row[column]]


def trajectory(folder):
    return [
        rows(folder / "measurements.csv", "loss"),
        rows(folder / "eval_measurements.csv", "train/loss"),
        rows(folder / "eval_measurements.csv", "validation/loss"),
    ]


def test_evaluates_every_period_and_logs_the_official_columns_and_cpu_time(tmp_path):
    status = run(NO_TARGETS, tmp_path)
    assert status["reason"] == "steps"
    assert status["global_step"] == 24
    steps = [row["global_step"] for row in read_evaluations(tmp_path)]
    assert steps == [5, 10, 15, 20, 24]
    assert read_status(tmp_path) == status
    assert not (tmp_path / "checkpoint.pt").exists()
    with (tmp_path / "eval_measurements.csv").open() as stream:
        columns = next(csv.reader(stream))
    assert columns == sorted(columns)
    assert set(columns) == {
        "accumulated_eval_time",
        "accumulated_logging_time",
        "accumulated_submission_cpu_time",
        "accumulated_submission_time",
        "global_step",
        "preemption_count",
        "score",
        "test/loss",
        "test/num_examples",
        "total_duration",
        "train/loss",
        "validation/loss",
        "validation/num_examples",
    }
    last = read_evaluations(tmp_path)[-1]
    assert last["score"] == last["accumulated_submission_time"] <= last["total_duration"]


def test_stops_at_both_targets(tmp_path):
    # This study's weights lie near the solution: the test target is met first, then the other.
    fast = dataclasses.replace(TRIAL, study=4, hyperparameters={"learning_rate": 0.02})
    status = run(fast, tmp_path)
    facts = registry.facts("fake")
    *earlier, last = read_evaluations(tmp_path)
    assert status["reason"] == "targets"
    assert facts.meets(last["validation/loss"], facts.validation_target)
    assert facts.meets(min(row["test/loss"] for row in earlier), facts.test_target)
    assert last["global_step"] < 24


def test_max_steps_and_the_submission_end_a_trial(tmp_path, monkeypatch):
    short = dataclasses.replace(NO_TARGETS, max_steps=7)
    assert run(short, tmp_path / "short")["global_step"] == 7
    monkeypatch.setenv("FAKE_COMPLETE_AT", "11")
    status = run(NO_TARGETS, tmp_path / "complete")
    assert (status["reason"], status["global_step"]) == ("submission", 12)
    assert read_evaluations(tmp_path / "complete")[-1]["global_step"] == 12


@pytest.fixture
def sleeping_time(monkeypatch):
    """A clock that only `time.sleep` moves, at once: however busy the machine is."""
    seconds = 0.0

    def sleep(duration):
        nonlocal seconds
        seconds += duration

    monkeypatch.setattr("time.sleep", sleep)
    for module in ("clock", "runner"):
        monkeypatch.setattr(f"scripts.local.{module}.now", lambda: seconds)


@pytest.mark.usefixtures("sleeping_time")
def test_time_is_checked_before_each_evaluation(tmp_path, monkeypatch):
    facts = dataclasses.replace(registry.facts("fake"), max_runtime_seconds=8)
    monkeypatch.setitem(registry._ALL, "fake", facts)
    monkeypatch.setenv("FAKE_STEP_SECONDS", "1.5")
    status = run(NO_TARGETS, tmp_path)
    assert (status["reason"], status["global_step"]) == ("time", 10)
    assert [row["global_step"] for row in read_evaluations(tmp_path)] == [5]


@pytest.mark.usefixtures("sleeping_time")
def test_clock_runs_in_steps_and_preparation_but_not_in_evaluation(tmp_path, monkeypatch):
    import time

    import fake_workload

    evaluate = fake_workload.FakeWorkload.eval_model

    def slow(self, *args):
        time.sleep(20)
        return evaluate(self, *args)

    monkeypatch.setattr(fake_workload.FakeWorkload, "eval_model", slow)
    monkeypatch.setenv("FAKE_STEP_SECONDS", "2")
    monkeypatch.setenv("FAKE_PREPARE_SECONDS", "5")
    run(dataclasses.replace(NO_TARGETS, max_steps=10), tmp_path)
    last = read_evaluations(tmp_path)[-1]
    timed = 10 * 2 + 2 * 5
    assert last["score"] == timed
    assert 0 < last["accumulated_submission_cpu_time"] < timed
    assert last["accumulated_eval_time"] == 2 * 20
    assert last["total_duration"] == timed + 2 * 20


def crash_at(step, folder):
    """A trial that raises in a step; it has saved a checkpoint after each evaluation before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_CRASH_AT", str(step))
        with pytest.raises(RuntimeError, match="crashed"):
            run(NO_TARGETS, folder)


def test_a_crashed_trial_resumes_bitwise(tmp_path):
    run(NO_TARGETS, tmp_path / "whole")
    torch.rand(3)
    crash_at(17, tmp_path / "resumed")
    torch.rand(5)
    seen = []
    run(
        NO_TARGETS,
        tmp_path / "resumed",
        Hooks(started=lambda count, step: seen.append((count, step))),
    )
    assert seen == [(1, 15)]
    assert trajectory(tmp_path / "resumed") == trajectory(tmp_path / "whole")
    counts = [row["preemption_count"] for row in read_evaluations(tmp_path / "resumed")]
    assert counts == [0, 0, 0, 1, 1]


def test_a_stop_request_between_evaluations_resumes_bitwise(tmp_path):
    run(NO_TARGETS, tmp_path / "whole")
    asked = iter([False] * 7 + [True])
    with pytest.raises(Stopped):
        run(NO_TARGETS, tmp_path / "stopped", Hooks(stop_requested=lambda: next(asked)))
    snapshot = checkpoint.load(tmp_path / "stopped" / "checkpoint.pt")
    assert snapshot["global_step"] == 8
    run(NO_TARGETS, tmp_path / "stopped")
    assert trajectory(tmp_path / "stopped") == trajectory(tmp_path / "whole")
    run(dataclasses.replace(NO_TARGETS, study=1), tmp_path / "other")
    assert trajectory(tmp_path / "other") != trajectory(tmp_path / "whole")


def test_rows_beyond_the_checkpoint_are_not_kept(tmp_path):
    crash_at(17, tmp_path)
    path = tmp_path / "eval_measurements.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    crash_at(15, tmp_path)
    assert [row["global_step"] for row in read_evaluations(tmp_path)] == [5, 10, 15]


def test_entries_start_from_the_same_weights_data_and_masks(tmp_path):
    losses = []
    for entry in ("fake_sgd", "fake_adam"):
        run(dataclasses.replace(NO_TARGETS, entry=entry, max_steps=1), tmp_path / entry)
        losses.append(rows(tmp_path / entry / "measurements.csv", "loss"))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "other", "empty"])
def test_a_damaged_checkpoint_is_named_and_nothing_is_written(tmp_path, damage):
    crash_at(17, tmp_path)
    path = tmp_path / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        weights = checkpoint.load(path)["model"]["weight"].numpy().tobytes()
        content[content.index(weights)] ^= 255
        path.write_bytes(content)
    elif damage == "other":
        torch.save({"model": {}}, path)
    else:
        path.write_bytes(b"" if damage == "empty" else b"no checkpoint")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"cannot resume from checkpoint .*checkpoint\.pt"):
        run(NO_TARGETS, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hyperparameters": {"learning_rate": 0.02}}, r"learning_rate=0\.005, not .*=0\.02"),
        ({"study": 1}, "study=0, not study=1"),
        ({"threads": 7}, "threads=1, not threads=7"),
        ({"torch": "2.0"}, r"torch=.*, not torch='2\.0'"),
        ({"facts": {"validation_target": 0.1}}, r"validation_target=0\.35, not .*=0\.1"),
    ],
    ids=str,
)
def test_another_trial_s_checkpoint_is_refused(tmp_path, monkeypatch, change, message):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    with pytest.raises(Stopped):
        run(TRIAL, tmp_path, Hooks(stop_requested=lambda: True))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    trial = TRIAL
    if "threads" in change:
        monkeypatch.setattr(torch, "get_num_threads", lambda: change["threads"])
    elif "torch" in change:
        monkeypatch.setattr(torch, "__version__", change["torch"])
    elif "facts" in change:
        facts = dataclasses.replace(registry.facts("fake"), **change["facts"])
        monkeypatch.setitem(registry._ALL, "fake", facts)
    else:
        trial = dataclasses.replace(TRIAL, **change)
    with pytest.raises(UserError, match=rf"checkpoint\.pt.*{message}; choose another --output"):
        run(trial, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_checkpoints_hold_plain_values_only(tmp_path):
    state = trial_state.start(TRIAL, MetricsLog(tmp_path))
    state.log.append_scalar_metrics({"loss": torch.tensor(2.5)}, 3)
    checkpoint.save(tmp_path / "checkpoint.pt", state.snapshot(1.0))
    loaded = checkpoint.load(tmp_path / "checkpoint.pt")
    assert loaded["log"]["measurements"] == [{"loss": 2.5, "global_step": 3, "preemption_count": 0}]
    assert loaded["seconds"] == 1.0
