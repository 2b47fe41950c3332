"""A study's processes: what runs, what is repeated, what is reported."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.cli import UserError
from scripts.local import environment, plan, studies
from scripts.local.lock import locked
from scripts.local.trial import is_complete
from tests.scripts.commands import FAKE_MAIN, finish_fake, must_refuse, running, wait_until

RATES = [0.01, 0.02, 0.03]

pytestmark = pytest.mark.usefixtures("fakes")


def planned_with(write, rates, entries=("fake_sgd", "fake_adam")):
    points = [{"learning_rate": rate} for rate in rates]
    path = write("space.json", points)
    numbers = range(1, len(rates) + 1)
    choice = {(entry, "fake"): numbers for entry in entries}
    return plan.trials_of([0], dict.fromkeys(entries, points), choice, 0), dict.fromkeys(
        entries, path
    )


def started(output):
    return [line.split()[0] for line in (output / "runs.txt").read_text().splitlines()]


def test_runs_all_then_nothing(tmp_path, write_json, machine):
    planned, spaces = planned_with(write_json, RATES)
    output = tmp_path / "out"
    assert studies.run_study(planned, spaces, output, machine) == []
    assert all(is_complete(trial, output) for trial in planned)
    assert sorted(started(output)) == sorted(
        trial.directory(Path()).as_posix() for trial in planned
    )
    used = {line.split("cores=")[1] for line in (output / "runs.txt").read_text().splitlines()}
    cores = environment.available_cores()[: machine.jobs]
    assert used == {str(core) for core in cores}, "each job has its own cores"
    manifest = (output / "manifest.json").read_bytes()
    leftover = planned[0].directory(output) / "checkpoint.pt"
    leftover.touch()
    studies.print_plan(planned, output)
    assert leftover.exists()
    assert studies.run_study(planned, spaces, output, machine) == []
    assert not leftover.exists(), "a complete trial needs no checkpoint"
    assert len(started(output)) == len(planned)
    assert (output / "manifest.json").read_bytes() == manifest


def test_only_what_is_missing_runs_and_the_manifest_grows(tmp_path, write_json, machine, capsys):
    planned, spaces = planned_with(write_json, RATES)
    output = tmp_path / "out"
    studies.print_plan(planned, output)
    assert not output.exists()
    studies.run_study(planned[:4], spaces, output, machine)
    capsys.readouterr()
    studies.print_plan(planned, output)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "6 trials, 4 complete, 2 to run"
    assert [line.split()[0] for line in lines[:-1]] == ["complete"] * 4 + ["to"] * 2
    (planned[1].directory(output) / "status.json").unlink()
    studies.run_study(planned, spaces, output, machine)
    assert sorted(started(output)[4:]) == sorted(
        planned[index].directory(Path()).as_posix() for index in (1, 4, 5)
    )
    first, second = json.loads((output / "manifest.json").read_text())["invocations"]
    assert (first["trials_to_run"], second["trials_to_run"]) == (4, 3)
    assert second["outcome"] == "complete"
    assert second["finished"] >= second["started"] >= first["finished"]
    assert {"command", "git_commit_hash", "packages", "jobs", "threads", "seed"} <= set(second)


def test_failed_trials_are_reported_and_the_others_run(tmp_path, write_json, machine, capsys):
    planned, spaces = planned_with(write_json, [0.5, 0.02], ("fake_sgd",))
    output = tmp_path / "out"
    failures = studies.run_study(planned, spaces, output, machine)
    assert [failure.reason for failure in failures] == ["RuntimeError: the loss exploded"]
    capsys.readouterr()
    assert studies.report(failures, len(planned), output) == 1
    log = planned[0].directory(output) / "log.txt"
    assert f"RuntimeError: the loss exploded (see {log})" in capsys.readouterr().err
    assert is_complete(planned[1], output)
    last = json.loads((output / "manifest.json").read_text())["invocations"][-1]
    assert (last["outcome"], last["trials_failed"]) == ("failed trials", 1)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE])
def test_without_room_for_a_trial_the_others_run_and_all_failures_are_told(
    tmp_path, write_json, machine, monkeypatch, code
):
    planned, spaces = planned_with(write_json, [0.5, 0.02, 0.03], ("fake_sgd",))
    output = tmp_path / "out"
    start = studies._start

    def exhausted(job, *arguments):
        if "trial 2" in job.name:
            raise OSError(code, os.strerror(code), str(job.log))
        return start(job, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(studies, "_start", exhausted)
        failures = studies.run_study(planned, spaces, output, machine)
    assert sorted(failure.job.name[-1] for failure in failures) == ["1", "2"]
    assert any(os.strerror(code) in failure.reason for failure in failures)
    assert [is_complete(trial, output) for trial in planned] == [False, False, True]
    assert [f.job.name[-1] for f in studies.run_study(planned, spaces, output, machine)] == ["1"]


def test_failures_are_told_when_the_manifest_cannot_be_written(
    tmp_path, write_json, machine, monkeypatch, capsys
):
    planned, spaces = planned_with(write_json, [0.5, 0.02], ("fake_sgd",))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run_jobs = studies.run_jobs

    def run_until_full(*arguments):
        run_jobs(*arguments)
        monkeypatch.setattr(os, "fsync", full)

    monkeypatch.setattr(studies, "run_jobs", run_until_full)
    with pytest.raises(UserError, match=r"cannot write .*manifest\.json: No space left on device"):
        studies.run_study(planned, spaces, tmp_path / "out", machine)
    assert "failed: fake_sgd on fake" in capsys.readouterr().err
    monkeypatch.undo()


def test_a_damaged_manifest_or_a_running_study_stops_it(tmp_path, write_json, machine):
    planned, spaces = planned_with(write_json, RATES)
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json"):
        studies.run_study(planned, spaces, tmp_path, machine)
    assert manifest.read_text() == "{"
    manifest.unlink()
    with (
        locked(tmp_path, "a study"),
        pytest.raises(UserError, match="another process is running a study"),
    ):
        studies.run_study(planned, spaces, tmp_path, machine)
    assert not (tmp_path / "runs.txt").exists()


HANG = """
import sys
from pathlib import Path
from scripts.local import studies
from scripts.local import plan
points = {"fake_sgd": [{"learning_rate": 0.7}]}
planned = plan.trials_of([0], points, {("fake_sgd", "fake"): [1]}, 0)
machine = studies.Machine(jobs=1, command=(sys.executable, sys.argv[1]))
studies.run_study(planned, {"fake_sgd": Path(sys.argv[2])}, Path(sys.argv[3]), machine)
"""


def start_hanging(tmp_path, write):
    space = write("space.json", [{"learning_rate": 0.7}])
    output = tmp_path / "out"
    folder = output / "fake_sgd" / "study_0" / "fake_pytorch" / "trial_1"
    process = subprocess.Popen(
        [sys.executable, "-c", HANG, FAKE_MAIN.with_name("fake_trial.py"), space, output],
        env=os.environ | {"PYTHONPATH": str(environment.ROOT)},
        stderr=subprocess.DEVNULL,
    )
    wait_until((folder / "hanging").exists)
    return process, output


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_study_stops_its_trials(tmp_path, write_json, signum):
    process, output = start_hanging(tmp_path, write_json)
    process.send_signal(signum)
    assert process.wait(timeout=30) != 0
    assert running(output) == []
    last = json.loads((output / "manifest.json").read_text())["invocations"][-1]
    assert last["outcome"] == "interrupted"


def study_command(output, *flags):
    return finish_fake("study", f"--output={output}", *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--entries=fake_sgd,lion"], "unknown entry 'lion'"),
        (["--entries=fake_sgd", "--workloads=cifr"], "unknown workload 'cifr'"),
        (["--entries=fake_sgd", "--workloads=cifar"], "cifar is an official workload"),
        (["--entries=fake_sgd", "--trials=some"], "allowed: all, best"),
        (["--entries=fake_sgd", "--trials=best"], "--best_from"),
        (["--entries=fake_sgd", "--trials=9"], "points 1 to 3"),
        (["--entries=fake_sgd", "--studies=99999999999"], "--studies=99999999999"),
        (["--entries=fake_sgd", "--first_study=999999999"], "--study=1000000000"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, flags, message):
    assert message in must_refuse(study_command(tmp_path / "out", "--workloads=fake", *flags))
    assert not (tmp_path / "out").exists()


def test_studies_start_where_asked(tmp_path):
    flags = ["--workloads=fake", "--entries=fake_sgd", "--trials=2", "--dry_run"]
    done = study_command(tmp_path, *flags, "--first_study=4", "--studies=2")
    assert done.returncode == 0, done.stderr
    *lines, summary = done.stdout.splitlines()
    assert [Path(line.split()[-1]).parts[-3] for line in lines] == ["study_4", "study_5"]
    assert summary == "2 trials, 0 complete, 2 to run"


@pytest.mark.slow
def test_a_real_study_with_a_damaged_checkpoint_runs_the_rest(tmp_path):
    folder = tmp_path / "fake_sgd" / "study_0" / "fake_pytorch"
    (folder / "trial_1").mkdir(parents=True)
    damaged = folder / "trial_1" / "checkpoint.pt"
    damaged.write_bytes(b"damaged")
    done = study_command(
        tmp_path, "--workloads=fake", "--entries=fake_sgd", "--studies=1", "--trials=1,3"
    )
    assert done.returncode == 1, done.stderr
    assert str(damaged) in done.stderr
    assert "1 of 2 trials failed" in done.stderr
    assert damaged.read_bytes() == b"damaged"
    assert json.loads((folder / "trial_3" / "status.json").read_text())["status"] == "complete"
