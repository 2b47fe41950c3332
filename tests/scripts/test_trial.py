"""A trial's identity, seeds and files."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from common.cli import UserError
from scripts.local import trial as trials
from scripts.local.trial import Trial
from workloads import registry

TRIAL = Trial("mnist_vit", "adamw", study=1, trial=2, hyperparameters={"learning_rate": 0.1})
STATUS = {"status": "complete", "reason": "steps", "global_step": 1}
STATUS["accumulated_submission_time"] = 1.0


def write_files(folder, trial):
    """Writes what says of a trial that it has finished."""
    content = {"hparams": dict(trial.hyperparameters), "flags_0": trial.settings()}
    folder.mkdir(parents=True)
    for name, values in (content | {"status": STATUS}).items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    (folder / "eval_measurements.csv").write_text("global_step,score\n1,1.0\n")


def test_seeds_are_paired_over_entries_and_points_only():
    others = [
        dataclasses.replace(TRIAL, **change)
        for change in ({"study": 2}, {"workload": "stdlib_lm"}, {"seed": 1})
    ]
    assert TRIAL.rng_seed not in {other.rng_seed for other in others}
    assert dataclasses.replace(TRIAL, entry="shampoo", trial=5).rng_seed == TRIAL.rng_seed


@pytest.mark.parametrize(
    "change",
    [
        *({"study": -1}, {"trial": 0}, {"seed": -1}, {"max_steps": 0}),
        *({"study": 10**9}, {"trial": 99_999_999_999}),  # which no reader of logs finds
    ],
)
def test_impossible_numbers_are_refused(change):
    with pytest.raises(UserError, match=f"--{next(iter(change))}="):
        dataclasses.replace(TRIAL, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"hyperparameters": {"learning_rate": 0.2}},
        {"hyperparameters": {"learning_rate": 0.1, "grad_clip": 1.0}},
        {"hyperparameters": {}},
        {"seed": 3},
        {"max_steps": 5},
        {"ignore_targets": True},
    ],
)
def test_files_of_another_trial_are_not_taken_for_this_one(tmp_path, change):
    directory = TRIAL.directory(tmp_path)
    write_files(directory, TRIAL)
    assert trials.is_complete(TRIAL, tmp_path)
    other = dataclasses.replace(TRIAL, **change)
    assert not trials.is_complete(other, tmp_path)
    with pytest.raises(UserError, match=r"--overwrite"):
        trials.check_same(other, directory)


@pytest.mark.parametrize(
    "change",
    [
        {"validation_target": 0.5},
        {"test_target": None},
        {"step_hint": 100},
        {"eval_period_steps": 10},
        {"max_runtime_seconds": 5},
    ],
    ids=str,
)
def test_a_trial_under_other_targets_or_budgets_is_another(tmp_path, monkeypatch, change):
    ignoring = dataclasses.replace(TRIAL, entry="ignoring", ignore_targets=True)
    for trial in (TRIAL, ignoring):
        write_files(trial.directory(tmp_path), trial)
    facts = dataclasses.replace(registry.facts(TRIAL.workload), **change)
    monkeypatch.setattr(registry, "facts", lambda name: facts)
    ((name, value),) = change.items()
    assert not trials.is_complete(TRIAL, tmp_path)
    with pytest.raises(UserError, match=rf"flags_0\.json .*{name}=.*, not {name}={value}; choose"):
        trials.check_same(TRIAL, TRIAL.directory(tmp_path))
    assert trials.is_complete(ignoring, tmp_path) == ("target" in name)


def test_files_that_do_not_record_a_setting_are_not_trusted(tmp_path):
    directory = TRIAL.directory(tmp_path)
    write_files(directory, TRIAL)
    flags = TRIAL.settings()
    del flags["step_hint"]
    (directory / "flags_0.json").write_text(json.dumps(flags))
    assert not trials.is_complete(TRIAL, tmp_path)
    with pytest.raises(UserError, match="written with no step_hint"):
        trials.check_same(TRIAL, directory)


@pytest.mark.parametrize("name", ["hparams.json", "flags_0.json"])
def test_a_status_alone_is_not_a_finished_trial(tmp_path, name):
    directory = TRIAL.directory(tmp_path)
    write_files(directory, TRIAL)
    (directory / name).unlink()
    assert not trials.is_complete(TRIAL, tmp_path)
    with pytest.raises(UserError, match=rf"without its {name}; .*--overwrite"):
        trials.finished(TRIAL, directory)


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", '{"status": "running"}', '{"status": "complete"}'),
        *(
            json.dumps(STATUS | change)
            for change in (
                *({"reason": None}, {"global_step": "1"}, {"global_step": True}),
                *({"global_step": 10**400}, {"global_step": -1}, {"evaluations": [1]}),
                *({"accumulated_submission_time": text} for text in ("1.0", None, {})),
                *({"accumulated_submission_time": x} for x in (math.nan, math.inf, 10**400)),
            )
        ),
    ],
)
def test_a_damaged_status_is_not_complete(tmp_path, content):
    directory = TRIAL.directory(tmp_path)
    write_files(directory, TRIAL)
    (directory / "status.json").write_text(content)
    assert not trials.is_complete(TRIAL, tmp_path)
    with pytest.raises(UserError, match=r"status\.json"):
        trials.read_status(directory)


@pytest.mark.parametrize(
    ("steps", "change", "reason"),
    [
        ([20, 40], {}, "ends at step 40, before the trial's last step 60"),
        ([20, 40], {"evaluations": 3}, "holds 2 of the trial's 3 evaluations"),
        ([20, 40], {"reason": "time", "evaluations": 3}, "holds 2 of the trial's 3 evaluations"),
        ([20, 40], {"reason": "time"}, None),
        ([20, 40], {"reason": "time", "evaluations": 2}, None),
        ([], {"reason": "time"}, None),
        ([], {"reason": "time", "evaluations": 1}, "cannot be read"),
        ([20, 40, 60], {}, None),
    ],
)
def test_lost_evaluations_are_not_complete(tmp_path, steps, change, reason):
    directory = TRIAL.directory(tmp_path)
    write_files(directory, TRIAL)
    (directory / "status.json").write_text(json.dumps(STATUS | {"global_step": 60} | change))
    table = directory / "eval_measurements.csv"
    table.write_text("".join(["global_step,score\n", *(f"{step},1.0\n" for step in steps)]))
    if not steps:
        table.unlink()
    assert trials.is_complete(TRIAL, tmp_path) == (reason is None)
    if reason:
        with pytest.raises(UserError, match=f"{table} .*{reason}"):
            trials.finished(TRIAL, directory)


def test_clearing_leaves_log_and_lock(tmp_path):
    write_files(tmp_path / "t", TRIAL)
    (tmp_path / "t" / "sub").mkdir()
    for name in ("log.txt", ".lock"):
        (tmp_path / "t" / name).touch()
    trials.clear(tmp_path / "t")
    assert {path.name for path in (tmp_path / "t").iterdir()} == {"log.txt", ".lock"}


def test_an_interrupted_clearing_leaves_no_checkpoint_or_status(tmp_path, monkeypatch):
    write_files(tmp_path / "t", TRIAL)
    (tmp_path / "t" / "checkpoint.pt").touch()

    def interrupt(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", interrupt)
        with pytest.raises(KeyboardInterrupt):
            trials.clear(tmp_path / "t")
    left = {path.name for path in (tmp_path / "t").iterdir()}
    assert left.isdisjoint({"checkpoint.pt", "status.json"})
