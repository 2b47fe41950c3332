"""A trial in several processes: who says what when one of them fails, is killed, or is to stop."""

import json
import os
import random
import signal
import subprocess
import sys

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from scripts.local import checkpoint, environment
from scripts.local.launch import verdict
from scripts.local.trial import Trial, is_complete
from tests.scripts.commands import FAKE_MAIN, finish, finish_fake, running, wait_until
from tests.scripts.test_ranks import on, values

# More: KILLS=30 python -m pytest tests/scripts/test_launch.py
KILLS = int(os.environ.get("KILLS", "3"))
TRIAL = Trial("fake", "fake_sgd", study=0, trial=1, hyperparameters={"learning_rate": 0.02})
RUN = ("--workload=fake", "--entry=fake_sgd", "--checkpoint_period_seconds=0")


@pytest.mark.slow
@pytest.mark.usefixtures("fakes")
def test_ranks_are_killed_and_the_study_resumes_to_the_same_end(tmp_path):
    on(4, tmp_path / "whole", TRIAL)
    output = tmp_path / "killed"
    folder = TRIAL.directory(output)
    study = ["study", "--workloads=fake", "--entries=fake_sgd", "--studies=1", "--trials=1"]
    study += ["--nproc=4", "--jobs=1", f"--output={output}", "--checkpoint_period_seconds=0"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=4"]
    torchrun += [f"--log-dir={tmp_path}"]
    draw = random.Random(0)
    for kill in range(KILLS):
        # Evaluated and saved every 5 of 24 steps: each kill strikes in a later part of the trial.
        part = kill % 4
        step, victim = 5 * part + draw.randrange(1, 5), draw.randrange(4)
        strike = {"FAKE_KILL_AT": str(step), "FAKE_RANK": str(victim)}
        if kill % 2 == 0:
            killed = finish_fake(*study, **strike)
            text = f"process {victim} of 4 was killed by SIGKILL; the same command resumes"
            assert f"failed: {TRIAL.name}: {text}" in killed.stderr
        else:  # the same without the study and our launcher
            killed = finish(*torchrun, str(FAKE_MAIN), "run", *RUN, f"--output={output}", **strike)
            assert f"rank      : {victim} (local_rank: {victim})" in killed.stderr
        assert killed.returncode == 1
        assert running(output) == []
        assert (folder / "checkpoint.pt").exists() == (part > 0)
    done = finish_fake(*study)
    assert done.returncode == 0, done.stderr
    assert is_complete(TRIAL, output)
    for name in ("loss", "train/loss", "validation/loss", "test/loss"):
        assert values(folder, name) == values(tmp_path / "whole", name)
    manifest = json.loads((output / "manifest.json").read_text())["invocations"]
    assert {record["nproc"] for record in manifest} == {4}
    cores = environment.available_cores()[:4]
    assert all(record["cores"] == [cores] for record in manifest)
    meta_data = [json.loads(path.read_text()) for path in folder.glob("meta_data_*.json")]
    assert {meta["nproc"] for meta in meta_data} == {4}
    assert meta_data[-1]["cores"] in (cores, environment.available_cores())  # torchrun pins none


@pytest.mark.slow
def test_sigterm_saves_a_checkpoint(tmp_path):
    folder = TRIAL.directory(tmp_path)
    process = subprocess.Popen(
        [sys.executable, str(FAKE_MAIN), "run", *RUN, f"--output={tmp_path}", "--nproc=2"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=environment.ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "FAKE_STEP_SECONDS": "0.3"},
    )
    wait_until(lambda: (folder / "eval_measurements.csv").exists() or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM
    assert errors.splitlines()[-1].startswith("stopped; run the same command again to resume")
    assert running(tmp_path) == []
    assert 5 < checkpoint.load(folder / "checkpoint.pt")["global_step"] < 24


@pytest.mark.slow
def test_mistakes_are_told_once(tmp_path):
    output = f"--output={tmp_path}"
    indivisible = finish_fake("run", *RUN, output, "--nproc=3")
    assert indivisible.returncode == 2
    line = "--nproc=3: the global batch of 8 examples does not divide evenly among 3 processes"
    assert indivisible.stderr == f"error: {line}\n"
    # As torchrun starts it.
    launched = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    contradicted = finish_fake("run", *RUN, output, "--nproc=3", **launched)
    assert contradicted.returncode == 2
    assert contradicted.stderr == "error: --nproc=3: torchrun has started 2 processes\n"


def failure(folder, rank, exitcode, timestamp, message=None):
    """As torch's launcher describes a process; `message` is what this has recorded itself."""
    path = folder / f"{rank}.json"
    if message is not None:
        extra = {"timestamp": str(timestamp), "py_callstack": f"Traceback:\n{message}\n"}
        path.write_text(json.dumps({"message": {"message": message, "extraInfo": extra}}))
    process_failure = ProcessFailure(rank, 1000 + rank, exitcode, str(path))
    process_failure.timestamp = timestamp
    return process_failure


LOST = "RankLost: another process is gone (closed)"
SILENT = "RankLost: another process did not answer for 9 s"


@pytest.mark.parametrize(
    ("failures", "code", "text"),
    [
        (
            [(0, 1, 50, LOST), (1, 1, 50, LOST), (2, -9, 51, None)],
            1,
            "process 2 of 4 was killed by SIGKILL; the same command resumes the trial",
        ),
        (
            [(0, 1, 50, LOST), (3, 1, 50, "ValueError: no\nmore")],
            1,
            "Traceback:\nValueError: no\nmore\nprocess 3 of 4 failed: ValueError: no",
        ),
        ([(0, 1, 50, LOST), (1, 2, 51, "UserError: --x=1: no")], 2, "error: --x=1: no"),
        ([(1, 1, 50, "OSError: full"), (0, -11, 49, None)], 1, "killed by SIGSEGV"),
        ([(1, 1, 49, "OSError: full"), (0, -15, 49, None)], 1, "process 1 of 4 failed: OSError"),
        (
            [(1, 1, 50, SILENT), (3, 1, 50, SILENT), (0, -9, 80, None)],
            1,
            "process 1 of 4 ended: another process did not answer for 9 s; process 0 had to be",
        ),
        ([(0, 143, 50, None), (1, 143, 50, None)], 143, ""),
    ],
)
def test_the_first_cause_is_told(tmp_path, failures, code, text):
    by_rank = {rank: failure(tmp_path, rank, *fields) for rank, *fields in failures}
    exit_code, message = verdict(by_rank, nproc=4)
    assert exit_code == code
    assert text in message and bool(text) == bool(message)
