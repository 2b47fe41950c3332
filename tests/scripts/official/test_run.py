"""Trials under a runner that writes the benchmark's files: killed, resumed, failed, refused."""

import json
import os
import signal
import zipfile

import pytest

from tests.scripts.commands import must_refuse, must_succeed, running, wait_until
from tests.scripts.official.fakes import (
    BREAKS_AT_THE_END,
    FAILS,
    GOOD,
    LEAVES,
    SKIP,
    SLOW,
)
from tests.scripts.official.fakes import make_entry as make
from workloads import search_space


def steps(folder):
    rows = (folder / "eval_measurements.csv").read_text().splitlines()
    column = rows[0].split(",").index("global_step")
    return [float(row.split(",")[column]) for row in rows[1:]]


def hanging(place):
    """A command whose runner waits after its first evaluation."""
    make(place.root / "toy", [GOOD])
    place.output.mkdir()
    (place.output / "hang").touch()
    return place.official(SKIP)


def runners(place):
    return running(place.output, "submission_runner.py")


def test_fresh_then_left_alone(place):
    make(place.root / "toy", [GOOD, SLOW])
    must_succeed(place.finish(place.official(SKIP)))
    first, second = (place.status(number=number) for number in (1, 2))
    assert (first["reason"], first["global_step"]) == ("targets", 30)
    assert (second["reason"], second["global_step"]) == ("time", 30)
    assert steps(place.folder()) == [10, 20, 30]
    assert json.loads((place.folder(number=2) / "hparams.json").read_text()) == {
        "learning_rate": SLOW
    }
    assert not list(place.output.glob("**/checkpoint_*"))
    assert not list(place.output.glob("**/.work"))
    written = {path: path.stat().st_mtime_ns for path in place.output.rglob("*") if path.is_file()}
    again = place.finish(place.official(SKIP))
    assert again.returncode == 0
    assert again.stdout.count("already complete") == 2
    assert written == {path: path.stat().st_mtime_ns for path in written}


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_killed_then_resumed(place, signum):
    command = hanging(place)
    process = place.start(command)
    wait_until(lambda: zipfile.is_zipfile(place.folder() / "checkpoint_10"))
    assert len(runners(place)) == 1
    process.send_signal(signum)
    assert process.wait(30) == (-9 if signum == signal.SIGKILL else 143)
    wait_until(lambda: not runners(place))  # none goes on writing the same files
    assert not (place.folder() / "status.json").exists()
    (place.output / "hang").unlink()
    (index,) = (place.folder() / ".work").iterdir()
    assert not list((place.root / "checkout").glob(".imagenet*"))
    index.write_text('{"classes": [], "class_to_idx": {}')  # killed amid writing it
    plan = place.finish([*command, "--dry_run"])
    assert "resumes from checkpoint_10" in plan.stdout
    done = place.finish(command)
    assert done.returncode == 0, done.stderr
    assert "goes on from step 10" in done.stderr
    status = place.status()
    assert (status["preemption_count"], status["reason"]) == (1, "targets")
    assert steps(place.folder()) == [10, 20, 30]
    assert (place.folder() / "flags_1.json").exists()
    assert (place.folder() / "launch_1.json").exists()


def test_a_second_process_is_refused(place):
    process = place.start(hanging(place))
    try:
        wait_until(lambda: zipfile.is_zipfile(place.folder() / "checkpoint_10"))
        done = place.finish(place.official(SKIP))
        assert done.returncode == 1
        assert "another process is running the trial" in done.stderr
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_two_trials_side_by_side(place, signum):
    make(place.root / "toy", [GOOD, GOOD, FAILS])
    place.output.mkdir()
    (place.output / "hang").touch()
    command = place.official(SKIP, "--gpus=1", "--at_once=2")
    process = place.start(command)
    folders = [place.folder(number=number) for number in (1, 2)]
    wait_until(lambda: all(zipfile.is_zipfile(folder / "checkpoint_10") for folder in folders))
    for device, folder in enumerate(folders):
        assert f"CUDA_VISIBLE_DEVICES={device} " in (folder / "log.txt").read_text()
        assert [path.name for path in (folder / ".work").iterdir()]
    if signum == signal.SIGINT:  # as a terminal sends it
        os.killpg(process.pid, signum)
    else:
        process.send_signal(signum)
    codes = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
    assert process.wait(60) == codes[signum]
    wait_until(lambda: not runners(place))
    assert not place.folder(number=3).exists()
    (place.output / "hang").unlink()
    done = place.finish(command)
    assert done.returncode == 1
    assert done.stdout.count("complete (targets) at step 30") == 2
    assert done.stderr.count("goes on from step 10") == 2
    (failure,) = [line for line in done.stderr.splitlines() if line.startswith("failed:")]
    assert "trial 3: RuntimeError: the loss exploded" in failure


@pytest.mark.parametrize(
    ("rate", "reason"),
    [(FAILS, "RuntimeError: the loss exploded"), (LEAVES, "ended without finishing the trial")],
)
def test_failed_runner_is_reported(place, rate, reason):
    make(place.root / "toy", [rate, GOOD])
    done = place.finish(place.official(SKIP))
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    failures = [line for line in lines if line.startswith("failed: toy on mnist, study 0, trial 1")]
    assert len(failures) == 1
    assert reason in failures[0]
    assert str(place.folder() / "log.txt") in failures[0]
    assert "Traceback" not in done.stderr
    assert (place.folder(number=2) / "status.json").exists()  # the others run all the same
    again = place.finish(place.official(SKIP))
    assert again.returncode == 1
    assert again.stdout.count("already complete") == 1


def test_a_failure_after_the_final_row_does_not_count(place):
    make(place.root / "toy", [BREAKS_AT_THE_END])
    out = must_succeed(place.finish(place.official(SKIP)))
    summary = "complete (targets; the runner then ended with exit code 1) at step 30 after 3.0 s"
    assert summary in out
    status = place.status()
    assert (status["reason"], status["exit_code"]) == ("targets", 1)
    assert not list(place.folder().glob("checkpoint_*"))
    again = place.finish(place.official(SKIP))
    assert "already complete (targets; the runner then ended with exit code 1)" in again.stdout
    assert not (place.folder() / "launch_1.json").exists()


def test_self_tuning(place):
    make(place.root / "toy", None)
    must_succeed(
        place.finish(place.official(SKIP, "--runner_flag=--profile", "--max_global_steps=20"))
    )
    status = place.status()
    assert (status["reason"], status["global_step"]) == ("steps", 20)
    flags = json.loads((place.folder() / "flags_0.json").read_text())
    assert flags["tuning_ruleset"] == "self"
    assert flags["tuning_search_space"] is None
    assert flags["profile"] is True


@pytest.mark.slow
def test_points_drawn_from_ranges_are_given_as_a_list(place):
    make(place.root / "toy", [SLOW])
    ranges = {"learning_rate": {"min": 0.01, "max": 0.1, "scaling": "log"}}
    (place.root / "ranges.json").write_text(json.dumps(ranges))
    tuning = (SKIP, f"--search_space={place.root / 'ranges.json'}", "--points=3", "--trial=2")
    must_succeed(place.finish(place.official(*tuning)))
    drawn = search_space.draw(ranges, 3)
    assert json.loads((place.folder(number=2) / "hparams.json").read_text()) == drawn[1]
    assert json.loads((place.folder(number=2) / "tuning_search_space.json").read_text()) == drawn
    other = place.finish(place.official(SKIP, "--trial=1"))  # the entry's own list has one point
    assert other.returncode == 0
    again = place.finish(place.official(*tuning, "--seed=1"))
    assert again.returncode == 1
    assert "flags_0.json was written with rng_seed=" in again.stderr


def test_study_of_several_entries(place):
    for name in ("toy", "rival"):
        make(place.root / name, [GOOD, GOOD])
    command = place.command(
        "study",
        "--suite=official",
        "--workloads=mnist",
        f"--entries={place.root / 'toy'},{place.root / 'rival'}",
        "--studies=2",
        "--trials=1",
        f"--output={place.output}",
        "--gpus=0",
        "--skip_checks=all",
    )
    out = must_succeed(place.finish(command))
    assert "all 4 trials complete" in out
    seeds = {}
    for entry in ("toy", "rival"):
        for study in (0, 1):
            flags = json.loads((place.folder(entry, 1, study) / "flags_0.json").read_text())
            seeds[entry, study] = flags["rng_seed"]
    assert seeds["toy", 0] == seeds["rival", 0] != seeds["toy", 1] == seeds["rival", 1]


@pytest.mark.slow
def test_two_ranks(place):
    make(place.root / "toy", [GOOD])
    must_succeed(place.finish(place.official(SKIP, "--gpus=2")))
    log = (place.folder() / "log.txt").read_text()
    assert log.count("batch size 16") == 2
    assert "CUDA_VISIBLE_DEVICES=0,1" in log


def test_missing_benchmark_is_one_line(place):
    make(place.root / "toy", [GOOD])
    (place.root / "checkout" / "submission_runner.py").unlink()
    line = must_refuse(place.finish(place.official(SKIP)))
    assert line.startswith("error: no submission_runner.py in") and "make algoperf" in line
    assert not place.output.exists()
