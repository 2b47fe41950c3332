"""The command line of one trial: its errors, and what survives kill -9."""

import csv
import json

import pytest

from common.files import make_directory
from scripts.local.lock import locked
from scripts.local.runner import Hooks, run_trial
from scripts.local.trial import Trial
from tests.scripts.commands import finish_fake, must_refuse, must_succeed


def run(output, *flags, **environment):
    given = {flag.partition("=")[0] for flag in flags}
    defaults = ("--workload=fake", "--entry=fake_sgd", f"--output={output}", "--ignore_targets")
    chosen = [flag for flag in defaults if flag.partition("=")[0] not in given]
    return finish_fake("run", *chosen, *flags, **environment)


def trial_folder(output):
    return output / "fake_sgd" / "study_0" / "fake_pytorch" / "trial_1"


def losses(output):
    with (trial_folder(output) / "measurements.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return [(row["global_step"], row["loss"], row["validation/loss"]) for row in rows]


@pytest.mark.slow
@pytest.mark.usefixtures("fakes")
def test_kill_and_terminate_then_resume_bitwise(tmp_path):
    trial = Trial("fake", "fake_sgd", 0, 1, {"learning_rate": 0.02}, ignore_targets=True)
    whole = make_directory(trial.directory(tmp_path / "whole"))
    run_trial(trial, whole, checkpoint_period_seconds=60.0, hooks=Hooks())
    output, folder = tmp_path / "killed", trial_folder(tmp_path / "killed")

    killed = run(output, "--checkpoint_period_seconds=0", FAKE_KILL_AT="13")
    assert killed.returncode == -9
    assert (folder / "checkpoint.pt").exists()
    (folder / ".checkpoint.pt.leftover").touch()
    terminated = run(output, FAKE_TERMINATE_AT="17")
    assert terminated.returncode == 143, terminated.stderr
    assert "resume" in terminated.stderr
    must_succeed(run(output))

    assert losses(output) == losses(tmp_path / "whole")
    expected = {"hparams.json", "status.json", "measurements.csv", "eval_measurements.csv"}
    expected |= {f"{name}_{count}.json" for name in ("flags", "meta_data") for count in range(3)}
    assert {path.name for path in folder.iterdir()} == expected | {".lock"}
    meta_data = json.loads((folder / "meta_data_2.json").read_text())
    assert meta_data["threads"] == 1
    assert meta_data["workload.step_hint"] == 24
    assert {"git_commit_hash", "git_dirty", "cpu_model_name", "rng_seed"} <= set(meta_data)
    assert json.loads((folder / "flags_0.json").read_text())["entry"] == "fake_sgd"

    before = {path: path.read_bytes() for path in folder.iterdir()}
    again = run(output)
    assert again.returncode == 0
    assert "already complete (steps) at step 24" in again.stdout
    assert {path: path.read_bytes() for path in folder.iterdir()} == before

    evaluations = folder / "eval_measurements.csv"
    evaluations.write_text(evaluations.read_text()[:-30])
    assert str(evaluations) in must_refuse(run(output))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workload=cifr"], "unknown workload 'cifr'; those that train here are: mnist_vit, "),
        (["--workload=cifar"], "cifar is an official workload"),
        (["--entry=lion"], "unknown entry 'lion'; known: "),
        (["--entry=fake_sdg"], "did you mean fake_sgd?"),
        (["--entry=./nowhere"], "no submission.py in "),
        (["--study=99999999999"], "--study=99999999999: allowed: 0 to 999999999"),
        (["--trial=9"], "--trial=9: "),
        (["--trial=x"], "--trial=x: must be an integer"),
        (["--noignore_targets=x"], "--noignore_targets=x: must be without a value"),
        (["--search_space=nowhere.json"], "nowhere.json"),
        (["--output=/dev/null/runs"], "/dev/null/runs"),
        (["--cores=4000"], "--cores=4000"),
        (["stray"], "'stray'"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, flags, message):
    assert message in must_refuse(run(tmp_path / "out", *flags))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_unusable_point_ends_in_one_line(tmp_path):
    space = tmp_path / "space.json"
    space.write_text('[{"learning_rat": 0.9}]')
    line = must_refuse(run(tmp_path / "out", f"--search_space={space}"))
    assert line.startswith(f"error: {space}")
    assert line.endswith("it lacks learning_rate; it has learning_rat")
    assert "entry 'fake_sgd' cannot use the point of trial 1" in line
    assert [path.name for path in trial_folder(tmp_path / "out").iterdir()] == [".lock"]


def test_a_trial_that_runs_elsewhere_is_left_alone(tmp_path):
    folder = trial_folder(tmp_path)
    folder.mkdir(parents=True)
    with locked(folder, "this trial"):
        line = must_refuse(run(tmp_path))
    assert "another process is running fake_sgd on fake" in line
    assert [path.name for path in folder.iterdir()] == [".lock"]


@pytest.mark.slow
def test_other_hyperparameters_are_refused_unless_overwritten(tmp_path):
    folder = trial_folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "hparams.json").write_text('{"learning_rate": 3.0}')
    assert "learning_rate=3.0" in must_refuse(run(tmp_path))
    assert run(tmp_path, "--overwrite", "--max_steps=2").returncode == 0
    assert json.loads((folder / "hparams.json").read_text()) == {"learning_rate": 0.02}


def an_entry(folder, name="mine"):
    """A folder with an entry that imports a module beside it and has one point."""
    path = folder / name
    path.mkdir()
    (path / "submission.py").write_text(
        "from submission.entries.fake_adam.submission import *\nfrom .beside import rate\n"
        "assert rate == 0.01\n"
    )
    (path / "beside.py").write_text("rate = 0.01\n")
    (path / "tuning_search_space.json").write_text('[{"learning_rate": 0.01}]')
    return path


@pytest.mark.slow
def test_an_entry_may_be_a_folder_elsewhere(tmp_path):
    entry, output = an_entry(tmp_path), tmp_path / "out"
    study = ("--workloads=fake", f"--entries={entry},fake_adam", "--studies=1", "--trials=1")
    must_succeed(finish_fake("study", *study, f"--output={output}"))
    folders = [
        output / name / "study_0" / "fake_pytorch" / "trial_1" for name in ("mine", "fake_adam")
    ]
    assert json.loads((folders[0] / "flags_0.json").read_text())["entry"] == "mine"
    mine, house = (json.loads((folder / "status.json").read_text()) for folder in folders)
    assert mine["global_step"] == house["global_step"]


def test_an_entry_elsewhere_has_a_name_of_its_own_and_points(tmp_path):
    for name, message in (("fake_sgd", "is the name of the entry in"), ("my-entry", "name of a")):
        assert message in must_refuse(run(tmp_path / "out", f"--entry={an_entry(tmp_path, name)}"))
    entry = an_entry(tmp_path)
    (entry / "tuning_search_space.json").unlink()
    line = must_refuse(run(tmp_path / "out", f"--entry={entry}"))
    assert f"no tuning_search_space.json in {entry}" in line
    assert not (tmp_path / "out").exists()
