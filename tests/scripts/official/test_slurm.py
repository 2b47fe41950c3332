"""Jobs of submitit: preempted and called again, and submitted to a Slurm that is only pretended."""

import dataclasses
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import submitit

from scripts import environment
from scripts import trial as trials
from scripts.official import checks, slurm
from scripts.official.command import Node
from tests.scripts.official.fakes import (
    FAILS,
    GOOD,
    SKIP,
    Place,
    make_checkout,
    make_entry,
    make_trial,
    processes_with,
    wait_for,
)

SBATCH = """#!/bin/sh
cp "$1" "$SUBMITTED"
echo "Submitted batch job 123"
"""
# srun --unbuffered --output FILE --error FILE COMMAND
SRUN = """#!/bin/sh
shift 5
exec "$@"
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    make_checkout(tmp_path / "checkout")
    return Place(tmp_path)


def unchecked(place: Place) -> Node:
    return dataclasses.replace(place.node(), skip_checks=checks.NAMES)


def test_preempted_jobs_go_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(environment.ROOT))
    entry = make_entry(place.root / "toy", [GOOD, GOOD])
    planned = [make_trial(entry, number) for number in (1, 2)]
    place.output.mkdir()
    hang = place.output / "hang"
    hang.touch()
    executor = submitit.LocalExecutor(place.root / "jobs")
    executor.update_parameters(timeout_min=30)
    jobs = slurm.submit_to(executor, planned, unchecked(place))
    folders = [trial.directory(place.output) for trial in planned]
    wait_for(lambda: all((folder / "checkpoint_10").exists() for folder in folders))
    for pid in processes_with("submitit.core._submit", place.root / "jobs"):
        os.kill(pid, signal.SIGUSR2)
    wait_for(lambda: all((folder / "launch_1.json").exists() for folder in folders))
    hang.unlink()
    said = [job.result() for job in jobs]
    assert [text.split(";")[0].split(" after")[0] for text in said] == [
        f"toy on mnist, study 0, trial {number}: complete (targets) at step 30" for number in (1, 2)
    ]
    for folder in folders:
        status = trials.read_status(folder)
        assert status is not None
        assert status["preemption_count"] == 1


def test_a_failed_trial_fails_its_job(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(environment.ROOT))
    trial = make_trial(make_entry(place.root / "toy", [FAILS]))
    executor = submitit.LocalExecutor(place.root / "jobs")
    (job,) = slurm.submit_to(executor, [trial], unchecked(place))
    with pytest.raises(submitit.core.utils.FailedJobError, match="the loss exploded"):
        job.result()


def test_an_array_is_submitted_and_its_jobs_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_folder = place.root / "bin"
    bin_folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN)):
        (bin_folder / name).write_text(text)
        (bin_folder / name).chmod(0o755)
    submitted = place.root / "submitted.sh"
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SUBMITTED", str(submitted))
    make_entry(place.root / "toy", [GOOD, GOOD, GOOD])
    flags = ("--slurm", "--slurm_hours=2", "--slurm_parallel=2", "--slurm_account=me")
    skip = "--skip_checks=all"
    done = place.finish(place.official(skip, "--trial=1"))
    assert done.returncode == 0, done.stderr
    done = place.finish(place.official(skip, *flags, "--slurm_option=constraint=v100"))
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["job 123_0", "job 123_1"]
    text = submitted.read_text()
    for line in ("array=0-1%2", "time=120", "account=me", "constraint=v100", "requeue"):
        assert f"#SBATCH --{line}\n" in text
    slurm = {"SLURM_JOB_ID": "124", "SLURM_ARRAY_JOB_ID": "123", "SLURM_ARRAY_TASK_ID": "1"}
    ranks = {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    nodes = {"SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "localhost"}
    ran = subprocess.run(
        ["bash", str(submitted)],
        cwd=place.root,
        env=place.variables() | slurm | ranks | nodes,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr
    assert (place.folder(number=3) / "status.json").exists()
    assert not place.folder(number=2).exists()


def test_without_slurm_one_line_says_so(place: Place) -> None:
    if shutil.which("srun"):
        pytest.skip("there is a Slurm here")
    make_entry(place.root / "toy", [GOOD])
    done = place.finish(place.official(SKIP, "--slurm"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --slurm: Could not detect")
    assert "Traceback" not in done.stderr
