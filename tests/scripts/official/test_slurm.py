"""Jobs of submitit: preempted and called again, and submitted to a Slurm that is only pretended."""

import dataclasses
import os
import shutil
import signal
import zipfile

import pytest
import submitit

from scripts.local import environment
from scripts.official import checks, slurm
from tests.scripts.commands import must_refuse, must_succeed, running, wait_until
from tests.scripts.official.fakes import (
    FAILS,
    GOOD,
    SKIP,
    make_entry,
    make_trial,
)

SBATCH = """#!/bin/sh
cp "$1" "$SUBMITTED"
echo "Submitted batch job 123"
"""
# srun --unbuffered --output FILE --error FILE --cpu-bind=none COMMAND
SRUN = """#!/bin/sh
shift 6
exec "$@"
"""


def unchecked(place):
    return dataclasses.replace(place.node(), skip_checks=checks.NAMES)


@pytest.mark.slow
def test_preempted_jobs_go_on(place, monkeypatch):
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
    wait_until(lambda: all(zipfile.is_zipfile(folder / "checkpoint_10") for folder in folders))
    for pid in running(place.root / "jobs", "submitit.core._submit"):
        os.kill(pid, signal.SIGUSR2)
    wait_until(lambda: all((folder / "launch_1.json").exists() for folder in folders))
    hang.unlink()
    results = [job.result() for job in jobs]
    assert [text.split(";")[0].split(" after")[0] for text in results] == [
        f"toy on mnist, study 0, trial {number}: complete (targets) at step 30" for number in (1, 2)
    ]
    assert [place.status(number=number)["preemption_count"] for number in (1, 2)] == [1, 1]


def test_a_failed_trial_fails_its_job(place, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(environment.ROOT))
    trial = make_trial(make_entry(place.root / "toy", [FAILS]))
    executor = submitit.LocalExecutor(place.root / "jobs")
    (job,) = slurm.submit_to(executor, [trial], unchecked(place))
    with pytest.raises(submitit.core.utils.FailedJobError, match="the loss exploded"):
        job.result()


@pytest.fixture
def submitted(place, monkeypatch):
    """A Slurm that copies what it is given to this file."""
    put(place, "sbatch", SBATCH)
    put(place, "srun", SRUN)
    monkeypatch.setenv("PATH", f"{place.root / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SUBMITTED", str(place.root / "submitted.sh"))
    return place.root / "submitted.sh"


def put(place, name, text):
    path = place.root / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def planned_script(text):
    """The batch file in what a dry run prints."""
    lines = text.splitlines()
    return [line.removeprefix("# ") for line in lines[lines.index("# #!/bin/bash") :]]


@pytest.mark.slow
def test_an_array_is_submitted_and_its_jobs_run(place, submitted):
    make_entry(place.root / "toy", [GOOD, GOOD, GOOD])
    skip = "--skip_checks=all"
    must_succeed(place.finish(place.official(skip, "--trial=1")))
    flags = ("--slurm", "--slurm_hours=2", "--slurm_parallel=2", "--slurm_option=account=me")
    command = place.official(skip, *flags, "--slurm_option=constraint=v100")
    plan = must_succeed(place.finish([*command, "--dry_run"]))
    folder = place.root / "logs.slurm"
    assert not folder.exists()
    out = must_succeed(place.finish(command))
    assert [line.split(":")[0] for line in out.splitlines()] == ["job 123_0", "job 123_1"]
    text = submitted.read_text()
    assert text.splitlines() == planned_script(plan)
    whole_node = ("exclusive", "mem=0")
    options = ("array=0-1%2", "time=120", "account=me", "constraint=v100", "requeue")
    for line in (*whole_node, *options):
        assert f"#SBATCH --{line}\n" in text
    assert "cpus-per-task" not in text
    # The organisers' scorer takes each folder for a submission's.
    assert [path.name for path in place.output.iterdir()] == ["toy"]
    slurm = {"SLURM_JOB_ID": "124", "SLURM_ARRAY_JOB_ID": "123", "SLURM_ARRAY_TASK_ID": "1"}
    ranks = {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    nodes = {"SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "localhost"}
    must_succeed(place.finish(["bash", str(submitted)], **slurm, **ranks, **nodes))
    assert (place.folder(number=3) / "status.json").exists()
    assert not place.folder(number=2).exists()


@pytest.mark.slow
def test_one_trial_is_no_array_and_none_is_nothing(place, submitted):
    make_entry(place.root / "toy", [GOOD])
    command = place.official("--skip_checks=all", "--slurm", "--slurm_cpus=48")
    plan = place.finish([*command, "--dry_run"])
    must_succeed(place.finish(command))
    text = submitted.read_text()
    assert text.splitlines() == planned_script(plan.stdout)
    assert "#SBATCH --cpus-per-task=48\n" in text
    for word in ("--array", "--exclusive", "--mem"):
        assert word not in text
    assert place.finish(place.official("--skip_checks=all")).returncode == 0
    for flags in ([], ["--dry_run"]):
        done = place.finish([*command, *flags])
        assert done.stdout.splitlines()[-1].endswith("every trial is complete; nothing to submit")
        assert "#SBATCH" not in done.stdout


@pytest.mark.parametrize(
    ("sbatch", "message"),
    [
        (None, "No such file or directory: 'sbatch'"),
        (
            "#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\necho no >&2\nexit 1\n",
            "error: --slurm: sbatch: error: invalid partition no",
        ),
        ("#!/bin/sh\necho hello\n", 'Could not make sense of sbatch output "hello"'),
    ],
)
def test_a_slurm_that_refuses_is_one_line(place, submitted, sbatch, message):
    if sbatch is not None:
        put(place, "sbatch", sbatch)
    else:
        (place.root / "bin" / "sbatch").unlink()
        if shutil.which("sbatch"):
            pytest.skip("there is a Slurm here")
    make_entry(place.root / "toy", [GOOD])
    done = place.finish(place.official("--skip_checks=all", "--slurm"))
    assert message in must_refuse(done)


def test_without_slurm_one_line_says_so(place):
    if shutil.which("srun"):
        pytest.skip("there is a Slurm here")
    make_entry(place.root / "toy", [GOOD])
    done = place.finish(place.official(SKIP, "--slurm"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --slurm: Could not detect")
    assert "Traceback" not in done.stderr
