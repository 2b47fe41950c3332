"""A trial's identity, seeds, files and lock."""

import dataclasses
import json
from pathlib import Path

import pytest

from common.cli import UserError
from scripts import trial as trials
from scripts.trial import Trial

TRIAL = Trial("mnist_vit", "adamw", study=1, trial=2, hyperparameters={"learning_rate": 0.1})


def write_files(folder: Path, trial: Trial) -> None:
    folder.mkdir(parents=True)
    (folder / "hparams.json").write_text(json.dumps(dict(trial.hyperparameters)))
    (folder / "flags_0.json").write_text(json.dumps(trial.settings()))
    status = {
        "status": "complete",
        "reason": "steps",
        "global_step": 1,
        "accumulated_submission_time": 1.0,
    }
    (folder / "status.json").write_text(json.dumps(status))


def test_seeds_are_paired_over_entries_only() -> None:
    others = [
        dataclasses.replace(TRIAL, **change)
        for change in ({"study": 2}, {"trial": 1}, {"workload": "stdlib_lm"}, {"seed": 1})
    ]
    assert TRIAL.rng_seed not in {other.rng_seed for other in others}
    assert dataclasses.replace(TRIAL, entry="shampoo").rng_seed == TRIAL.rng_seed


@pytest.mark.parametrize("change", [{"study": -1}, {"trial": 0}, {"seed": -1}, {"max_steps": 0}])
def test_impossible_numbers_are_refused(change: dict[str, int]) -> None:
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
def test_files_of_another_trial_are_not_taken_for_this_one(
    tmp_path: Path, change: dict[str, int]
) -> None:
    directory = TRIAL.directory(tmp_path)
    write_files(directory, TRIAL)
    assert trials.is_complete(TRIAL, tmp_path)
    other = dataclasses.replace(TRIAL, **change)
    assert not trials.is_complete(other, tmp_path)
    with pytest.raises(UserError, match=r"--overwrite"):
        trials.check_same(other, directory)


@pytest.mark.parametrize("content", ["", "[]", '{"status": "running"}', '{"status": "complete"}'])
def test_a_damaged_status_is_not_complete(tmp_path: Path, content: str) -> None:
    directory = TRIAL.directory(tmp_path)
    write_files(directory, TRIAL)
    (directory / "status.json").write_text(content)
    assert not trials.is_complete(TRIAL, tmp_path)
    with pytest.raises(UserError, match=r"status\.json"):
        trials.read_status(directory)


def test_a_folder_is_locked_once(tmp_path: Path) -> None:
    with (
        trials.locked(tmp_path, "this trial"),
        pytest.raises(UserError, match="another process is running this trial"),
        trials.locked(tmp_path, "this trial"),
    ):
        pass
    with trials.locked(tmp_path, "this trial"):
        pass


def test_clearing_leaves_the_log(tmp_path: Path) -> None:
    write_files(tmp_path / "t", TRIAL)
    (tmp_path / "t" / "sub").mkdir()
    (tmp_path / "t" / "log.txt").touch()
    trials.clear(tmp_path / "t")
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["log.txt"]
