"""What is made of the runner's files: complete or not, what goes on from where, what is damaged."""

import errno
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from common.cli import UserError
from scripts.local.trial import Trial
from scripts.official import logs, run
from scripts.official.keep import Keeper, prune
from tests.scripts.official.fakes import GOOD, Place, make_entry, make_trial

HEADER = (
    "accumulated_submission_time,global_step,preemption_count,score,"
    "test/accuracy,validation/accuracy"
)
TABLES = ("eval_measurements.csv", "measurements.csv")
LATE = [(1, 1.0, 0.1), (9, 11.0, 0.98)]


@pytest.fixture
def folder(tmp_path):
    path = Place(tmp_path).folder()
    path.mkdir(parents=True)
    return path


def evaluations(*rows):
    lines = [f"{seconds},{step},0,{seconds},{quality},{quality}" for step, seconds, quality in rows]
    return "\n".join([HEADER, *lines]) + "\n"


def write(folder, rows, end=None, checkpoints=(), launched=False, **flags):
    """Files as the runner leaves them; `launched`: started by `scripts.official`."""
    last = f",{end[0]},0,{end[1]},,\n" if end else ""
    for name, text in zip(TABLES, ("", last), strict=True):
        (folder / name).write_text(evaluations(*rows) + text)
    (folder / "hparams.json").write_text(json.dumps({"learning_rate": GOOD}))
    (folder / "flags_0.json").write_text(json.dumps(flags))
    if launched:
        (folder / "launch_0.json").write_text("{}")
    for step in checkpoints:
        with zipfile.ZipFile(folder / f"checkpoint_{step}", "w") as archive:
            archive.writestr("state", "weights" * 100)


@pytest.mark.parametrize(
    ("quality", "end", "max_steps", "reason"),
    [
        (0.98, (9, 11.0), None, "targets"),
        (0.5, (20, 60.0), None, "time"),
        (0.5, (9, 11.0), None, "submission"),
        (0.5, (9, 11.0), 9, "steps"),
        (0.98, None, None, None),
    ],
)
def test_logs_made_elsewhere(tmp_path, folder, quality, end, max_steps, reason):
    inner = Trial("mnist", "toy", 0, 1, {"learning_rate": GOOD}, max_steps=max_steps)
    trial = make_trial(make_entry(tmp_path / "toy", [GOOD]), trial=inner)
    write(folder, [(1, 1.0, 0.1), (9, 11.0, quality)], end, [9] if end else [], rng_seed=1)
    status = logs.finished(trial, folder)
    if end is None:
        assert status is None
        return
    assert (status["reason"], status["source"]) == (reason, "logs")
    assert (status["global_step"], status["accumulated_submission_time"]) == end


@pytest.mark.parametrize(
    ("meta", "flags", "seconds", "reason"),
    [
        ({"max_allowed_runtime_sec": 30}, {}, 30.0, "time"),
        ({"max_allowed_runtime_sec": 30}, {}, 29.9, "submission"),
        ({"max_allowed_runtime_sec": 90}, {}, 70.0, "submission"),
        ({"max_allowed_runtime_sec": 60}, {"tuning_ruleset": "external"}, 70.0, "time"),
        ({"max_allowed_runtime_sec": 60}, {"tuning_ruleset": "self"}, 70.0, "submission"),
        ({"max_allowed_runtime_sec": 60}, {"tuning_ruleset": "self"}, 90.0, "time"),
        ({"max_allowed_runtime_sec": 60}, {"max_global_steps": 9}, 11.0, "steps"),
        (
            {"max_allowed_runtime_sec": 60, "validation_target_value": 0.4},
            {},
            11.0,
            "targets",  # a workload without a test target, such as finewebedu_lm
        ),
        (
            {"max_allowed_runtime_sec": 60, "validation_target_value": 0.4}
            | {"test_target_value": 0.6},
            {},
            11.0,
            "submission",
        ),
        ({"max_allowed_runtime_sec": True}, {}, 60.0, "time"),
    ],
)
def test_an_end_is_told_by_the_logs_own_budget_ruleset_and_targets(
    trial, folder, meta, flags, seconds, reason
):
    write(folder, [(1, 1.0, 0.1), (9, 11.0, 0.5)], (9, seconds), rng_seed=1)
    named = {f"workload.{name}": value for name, value in meta.items()}
    (folder / "meta_data_0.json").write_text(json.dumps({"workload.max_allowed_runtime_sec": 1}))
    (folder / "meta_data_10.json").write_text(json.dumps(named))
    (folder / "flags_10.json").write_text(json.dumps(flags))
    status = logs.ending(trial, folder)
    assert status["reason"] == reason
    (folder / "meta_data_10.json").write_text("{")  # then the registry's 60 s and both targets
    status = logs.ending(trial, folder)
    expected = "time" if seconds >= 60 else "steps" if "max_global_steps" in flags else "submission"
    if flags.get("tuning_ruleset") != "self":
        assert status["reason"] == expected


@pytest.mark.parametrize("launched", [True, False])
def test_a_trial_that_ended_is_complete_and_checkpoints_of_others_stay(
    tmp_path, trial, folder, launched
):
    write(folder, LATE, (9, 11.0), [9], launched, **trial.recorded())
    node = Place(tmp_path).node()  # without a checkout: nothing can be run
    assert run.describe(trial, node) == "complete"
    for _ in range(2):
        assert "already complete (targets) at step 9" in run.complete(trial, node)
    assert ("source" in json.loads((folder / "status.json").read_text())) == (not launched)
    assert (folder / "checkpoint_9").exists() == (not launched)


@pytest.mark.parametrize("launched", [True, False])
def test_damaged_tables_are_no_end(trial, folder, launched):
    write(folder, LATE, (9, 11.0), [9], launched, **trial.recorded())
    table = folder / "measurements.csv"
    table.write_text(table.read_text()[:-4])
    if launched:
        assert logs.finished(trial, folder) is None  # it is mended from its backup
    else:
        with pytest.raises(UserError, match=r"measurements\.csv is damaged"):
            logs.finished(trial, folder)


@pytest.mark.parametrize(
    "row",
    [
        *(",,,,,", ",inf,0,11.0,,", ",nan,0,11.0,,", ",9.5,0,11.0,,", ",-9,0,11.0,,"),
        *(",9,0,inf,,", ",9,0,nan,,", ",9,x,11.0,,", ",9,0,1e999,,", "1.0,9,0,11.0,x,0.5"),
    ],
)
@pytest.mark.parametrize("name", TABLES)
def test_an_odd_last_row_is_damage(trial, folder, name, row):
    write(folder, LATE, (9, 11.0), [9], **trial.recorded())
    table = folder / name
    table.write_text(f"{table.read_text()}{row}\n")
    with pytest.raises(UserError, match=f"{table} is damaged: line "):
        logs.finished(trial, folder)
    assert table.read_text().endswith(f"{row}\n")


def test_evaluations_that_the_status_knows_of_are_missed(trial, folder):
    write(folder, LATE, (9, 11.0), launched=True, **trial.recorded())
    status = logs.finished(trial, folder)
    assert status is not None and status["evaluations"] == 2
    (folder / "status.json").write_text(json.dumps(status))
    (folder / "eval_measurements.csv").write_text(evaluations(LATE[0]))
    with pytest.raises(UserError, match="holds 1 of the trial's 2 evaluations"):
        logs.finished(trial, folder)


@pytest.mark.parametrize("end", [None, (9, 11.0)])
@pytest.mark.parametrize(
    ("name", "value"),
    [("rng_seed", 7), ("torch_compile", True), ("max_global_steps", 5), ("workload", "cifar")],
)
def test_another_trial_is_refused(trial, folder, name, value, end):
    write(folder, LATE, end, [9], True, **trial.recorded() | {name: value})
    with pytest.raises(UserError, match=f"flags_0.json was written with {name}={value!r}, not"):
        logs.finished(trial, folder)


def test_other_hyperparameters_are_refused(trial, folder):
    write(folder, LATE, checkpoints=[1], **trial.recorded())
    (folder / "hparams.json").write_text('{"learning_rate": 0.2}')
    with pytest.raises(UserError, match=r"hparams.json was written with learning_rate=0.2, not"):
        logs.finished(trial, folder)


def test_goes_on_from_the_last_whole_checkpoint(trial, folder):
    rows = [(1, 1.0, 0.1), (5, 11.0, 0.2), (9, 21.0, 0.3)]
    write(folder, rows, checkpoints=[1, 5, 9], **trial.recorded())
    newest = folder / "checkpoint_9"
    newest.write_bytes(newest.read_bytes()[:-30])
    assert logs.finished(trial, folder) is None
    assert logs.prepare(folder) == 5
    assert (folder / "damaged_checkpoint_9").exists()
    for name in TABLES:
        assert (folder / name).read_text() == evaluations(*rows[:2])
        assert (folder / "backup" / f"{name}.cut_0").read_text() == evaluations(*rows)


def test_without_a_whole_checkpoint_all_begins_anew(trial, folder):
    for number in range(2):
        write(folder, [(1, 1.0, 0.1)], checkpoints=[1], **trial.recorded())
        path = folder / "checkpoint_1"
        path.write_bytes(path.read_bytes().replace(b"weights", b"Weights", 1))
        (folder / "log.txt").write_text("text")
        assert logs.prepare(folder) == 0
        left = {"attempt_0", "attempt_1"} if number else {"attempt_0"}
        assert {path.name for path in folder.iterdir()} == {"log.txt", *left}
    attempt = folder / "attempt_1"
    assert (attempt / "eval_measurements.csv").read_text() == evaluations((1, 1.0, 0.1))
    assert (attempt / "damaged_checkpoint_1").exists()


@pytest.mark.parametrize("text", ["", HEADER, evaluations((1, 1.0, 0.1), (5, 2.0, 0.3))[:-4]])
def test_a_damaged_table_is_named_or_restored(trial, folder, text):
    write(folder, [(1, 1.0, 0.1)], checkpoints=[1], launched=True, **trial.recorded())
    table = folder / "eval_measurements.csv"
    table.write_text(text)
    with pytest.raises(UserError, match=r"eval_measurements\.csv is damaged"):
        logs.prepare(folder)
    (folder / "backup").mkdir()
    (folder / "backup" / table.name).write_text(evaluations((1, 1.0, 0.1)))
    assert logs.prepare(folder) == 1
    assert table.read_text() == evaluations((1, 1.0, 0.1))
    assert (folder / f"damaged_{table.name}").read_text() == text


class Bar:
    n = 0
    text = ""

    def update(self, n):
        self.n += n

    def set_postfix_str(self, text):
        self.text = text


def test_keeper_copies_only_whole_tables(trial, folder):
    bar, table = Bar(), evaluations((1, 1.0, 0.1), (5, 12.5, 0.2))
    keeper = Keeper(trial, folder, bar)
    keeper.look()  # nothing is there yet
    write(folder, [(1, 1.0, 0.1), (5, 12.5, 0.2)])
    keeper.look()
    assert (bar.n, bar.text) == (12, "step 5, validation/accuracy 0.2")
    backup = folder / "backup" / "eval_measurements.csv"
    assert backup.read_text() == table
    (folder / "eval_measurements.csv").write_text(HEADER)
    keeper.look()
    assert backup.read_text() == table


def test_what_the_file_system_refuses_does_not_end_the_trial(trial, folder, monkeypatch, capsys):
    def full(source, target):
        target.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    def stale(path, missing_ok=False):
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    keeper, backup = Keeper(trial, folder, Bar()), folder / "backup" / "eval_measurements.csv"
    write(folder, LATE, checkpoints=[1, 5, 9])
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copy2", full)
        patched.setattr(Path, "unlink", stale)
        for _ in range(3):
            keeper.look()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # one for each cause
    for line, cause in zip(lines, ("Stale file handle", "No space left on device"), strict=True):
        assert line.startswith(f"warning: {folder}: ") and cause in line
    assert not backup.exists()
    keeper.look()
    assert backup.read_text() == evaluations(*LATE)
    assert len(logs.checkpoints(folder)) == 2


def test_two_checkpoints_are_kept(trial, folder):
    write(folder, [], checkpoints=[1, 5, 9, 10])
    prune(folder)
    names = [path.name for path in logs.checkpoints(folder)]
    assert names == ["checkpoint_9", "checkpoint_10"]
    write(folder, [], checkpoints=[1, 9, 10])
    (folder / "checkpoint_9").write_bytes(b"half")
    prune(folder)  # the last but one is not whole, so the one before it is
    assert len(logs.checkpoints(folder)) == 3
