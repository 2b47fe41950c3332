"""Runs of both recipes on generated images: they learn, resume bitwise, and train in two ranks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from common.cli import UserError
from scripts.imagenet import train
from scripts.imagenet.data import loaders
from scripts.imagenet.resnet import ResNet
from scripts.local import checkpoint, environment
from scripts.local.runner import Hooks
from scripts.local.trial import CHECKPOINT
from tests.scripts.imagenet_runs import (
    RECIPES,
    assert_same,
    experiment,
    finish,
    in_float64,
    in_float64_as_two_ranks,
    rows,
    run_ranks,
    short,
    weights,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=RECIPES)
def command_run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A whole run of the command in one process: its recipe and its folder."""
    name, output = request.param, tmp_path_factory.mktemp(request.param)
    code, out, errors = finish(*smoke(name, output))
    assert code == 0, errors
    assert f"{name}, seed 0: complete, top-1 accuracy " in out
    return name, output / name / "seed_0"


def smoke(name: str, output: Path) -> list[str]:
    return [f"--config={name}", "--smoke", f"--output={output}"]


def test_a_run_learns(command_run: tuple[str, Path]) -> None:
    name, folder = command_run
    log = rows(folder)
    assert [(row["epoch"], row["step"]) for row in log] == [(n, 10 * n) for n in range(1, 7)]
    for loss in ("train_loss", "validation_loss"):
        assert log[-1][loss] < log[2][loss] < log[0][loss]
    accuracy = log[-1]["validation_accuracy"]
    assert accuracy > 0.9, "of four classes"
    status = json.loads((folder / "status.json").read_text())
    expected = {"status": "complete", "epochs": 6, "step": 60, "validation_accuracy": accuracy}
    assert status == expected | {"seconds": status["seconds"]}
    names = {".lock", "config.json", "log.csv", "meta_data_0.json", "model.pt", "status.json"}
    assert {path.name for path in folder.iterdir()} == names

    run = experiment(name)
    model = ResNet(run.config.depths, run.config.width, run.config.classes).eval()
    model.load_state_dict(weights(folder))
    batches = list(loaders(run.source, run.config, 0)[2])
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert len(labels) == 107 and len(labels) % run.config.batch_size
    with torch.no_grad():
        logits = model(images)
    assert log[-1]["validation_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), 1e-5)
    assert accuracy == pytest.approx((logits.argmax(1) == labels).double().mean().item())


def test_a_stopped_run_resumes_to_the_bitwise_same_end(
    command_run: tuple[str, Path], tmp_path: Path
) -> None:
    name, whole = command_run
    folder = tmp_path / name / "seed_0"
    folder.mkdir(parents=True)
    for step in (13, 7, 20):  # within an epoch, within another, and with the end of the fourth
        assert run_ranks(1, experiment(name), folder, stop=(0, step)) is None
        assert not (folder / "model.pt").exists()
    code, _, errors = finish(*smoke(name, tmp_path), "--checkpoint_period_minutes=0")
    assert code == 0, errors
    assert {path.name for path in folder.glob("meta_data_*")} == {"meta_data_3.json"}
    assert not (folder / CHECKPOINT).exists()
    assert_same(folder, whole)


def test_a_finished_run_is_left_alone_and_another_one_refused(
    command_run: tuple[str, Path],
) -> None:
    name, folder = command_run
    command = smoke(name, folder.parents[1])
    before = (folder / "model.pt").stat().st_mtime_ns
    code, out, _ = finish(*command)
    assert code == 0 and "already complete" in out
    code, _, errors = finish(*command, "--generated_images=64")
    assert code == 2 and errors.count("\n") == 1
    assert "not data='generated, 64 images'" in errors
    assert (folder / "model.pt").stat().st_mtime_ns == before


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run = experiment("sgd")
    run_ranks(1, run, tmp_path, stop=(0, 3))
    with pytest.raises(UserError, match=r"was written with lr=0.0125, not lr=0.5; choose another"):
        train.run(experiment("sgd", lr=0.5), tmp_path, 1e9, Hooks())
    with (tmp_path / CHECKPOINT).open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"damage")
    with pytest.raises(UserError, match="cannot resume from checkpoint"):
        train.run(run, tmp_path, 1e9, Hooks())


@pytest.mark.parametrize("name", RECIPES)
def test_two_ranks_resume_to_the_bitwise_same_end(name: str, tmp_path: Path) -> None:
    run, whole, stopped = short(name), tmp_path / "whole", tmp_path / "stopped"
    run_ranks(2, run, whole)
    assert run_ranks(2, run, stopped, stop=(1, 7)) is None, "a stop asked of one rank stops both"
    run_ranks(2, run, stopped, checkpoint_period_seconds=0.0)
    assert_same(stopped, whole)


@pytest.mark.parametrize("name", RECIPES)
def test_two_ranks_take_the_steps_of_one_process(name: str, tmp_path: Path) -> None:
    run = short(name)
    run_ranks(1, run, tmp_path / "one", prepare=in_float64_as_two_ranks)
    run_ranks(2, run, tmp_path / "two", prepare=in_float64)
    for one, two in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert two == pytest.approx(one, rel=1e-8)
    two_ranks = weights(tmp_path / "two")
    for key, value in weights(tmp_path / "one").items():
        assert value.dtype in (torch.float64, torch.int64)
        torch.testing.assert_close(two_ranks[key], value, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("name", "precision"), [("sgd", "bfloat16"), ("shampoo", "float16")])
def test_lower_precision_learns_and_resumes(name: str, precision: str, tmp_path: Path) -> None:
    run = short(name, precision=precision)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run_ranks(1, run, whole)
    assert rows(whole)[-1]["train_loss"] < rows(whole)[0]["train_loss"] < 1.5
    run_ranks(1, run, stopped, stop=(0, 7))
    snapshot = checkpoint.load(stopped / CHECKPOINT)
    assert snapshot["scaler"].get("_growth_tracker") == (7 if precision == "float16" else None)
    run_ranks(1, run, stopped)
    assert_same(stopped, whole)


def test_two_processes_of_the_command_stop_and_resume(tmp_path: Path) -> None:
    folder = tmp_path / "sgd" / "seed_0"
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.imagenet", *smoke("sgd", tmp_path), "--nproc=2"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=environment.ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    while not (folder / "meta_data_0.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert errors.splitlines()[-1].startswith("stopped; run the same command again to resume")
    assert not (folder / "model.pt").exists()
    status = run_ranks(2, experiment("sgd"), folder)
    assert status is not None and status["step"] == 60
    run_ranks(2, experiment("sgd"), tmp_path / "whole")
    assert_same(folder, tmp_path / "whole")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config=sgd"], "--data_dir is missing"),
        (["--config=sgd", "--smoke", "--data_dir=x"], "--data_dir=x: generated images take none"),
    ],
    ids=str,
)
def test_mistakes_end_in_one_line(flags: list[str], message: str, tmp_path: Path) -> None:
    code, _, errors = finish(*flags, f"--output={tmp_path}")
    assert code == 2
    assert errors.startswith(f"error: {message}") and errors.count("\n") == 1
