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
    Ended,
    How,
    assert_same,
    experiment,
    finish,
    in_float64,
    in_float64_as_two_ranks,
    on,
    rows,
    short,
    weights,
)

Alone = tuple[str, Path, Ended]


@pytest.fixture(scope="module", params=RECIPES)
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """A whole run of the command in one process: its recipe, its folder and how it ended."""
    name, output = request.param, tmp_path_factory.mktemp(request.param)
    return name, output / name / "seed_0", finish(*smoke(name, output))


def smoke(name: str, output: Path) -> list[str]:
    return [f"--config={name}", "--smoke", f"--output={output}"]


def test_a_run_learns(alone: Alone) -> None:
    name, folder, ended = alone
    log = rows(folder)
    assert [row["epoch"] for row in log] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in log] == [10, 20, 30, 40, 50, 60]
    for loss in ("train_loss", "validation_loss"):
        assert log[-1][loss] < log[2][loss] < log[0][loss]
    accuracy = log[-1]["validation_accuracy"]
    assert accuracy > 0.9, "of four classes"
    status = json.loads((folder / "status.json").read_text())
    assert status == {
        "status": "complete",
        "epochs": 6,
        "step": 60,
        "seconds": status["seconds"],
        "validation_accuracy": accuracy,
    }
    assert ended.code == 0, ended.errors
    assert f"{name}, seed 0: complete, top-1 accuracy {accuracy:.4f} after 6 ep" in ended.out
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
    right = (logits.argmax(1) == labels).double().mean().item()
    assert accuracy == pytest.approx(right)


def test_a_stopped_run_resumes_to_the_bitwise_same_end(alone: Alone, tmp_path: Path) -> None:
    name, whole, _ = alone
    folder = tmp_path / name / "seed_0"
    folder.mkdir(parents=True)
    for step in (13, 7, 20):  # within an epoch, within another, and with the end of the fourth
        assert on(1, experiment(name), folder, How(stop=(0, step))) is None
        assert not (folder / "model.pt").exists()
    ended = finish(*smoke(name, tmp_path), "--checkpoint_period_minutes=0")  # after every step
    assert ended.code == 0, ended.errors
    assert {path.name for path in folder.glob("meta_data_*")} == {"meta_data_3.json"}
    assert not (folder / CHECKPOINT).exists()
    assert_same(folder, whole)


def test_a_finished_run_is_left_alone_and_another_one_refused(alone: Alone) -> None:
    name, folder, _ = alone
    command = smoke(name, folder.parents[1])
    before = (folder / "model.pt").stat().st_mtime_ns
    again = finish(*command)
    assert again.code == 0 and "already complete" in again.out
    other = finish(*command, "--generated_images=64")
    assert other.code == 2 and other.errors.count("\n") == 1
    assert "not data='generated, 64 images'; choose another --output, or --ov" in other.errors
    assert (folder / "model.pt").stat().st_mtime_ns == before


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run = experiment("sgd")
    on(1, run, tmp_path, How(stop=(0, 3)))
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
    on(2, run, whole)
    assert on(2, run, stopped, How(stop=(1, 7))) is None, "a stop asked of one rank stops both"
    on(2, run, stopped, How(checkpoint_period_seconds=0.0))
    assert_same(stopped, whole)


@pytest.mark.parametrize("name", RECIPES)
def test_two_ranks_take_the_steps_of_one_process(name: str, tmp_path: Path) -> None:
    run = short(name)
    on(1, run, tmp_path / "one", How(prepare=in_float64_as_two_ranks))
    on(2, run, tmp_path / "two", How(prepare=in_float64))
    for one, two in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert two == pytest.approx(one, rel=1e-8)
    ours = weights(tmp_path / "two")
    for key, value in weights(tmp_path / "one").items():
        assert value.dtype in (torch.float64, torch.int64)
        torch.testing.assert_close(ours[key], value, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("name", "precision"), [("sgd", "bfloat16"), ("shampoo", "float16")])
def test_lower_precision_learns_and_resumes(name: str, precision: str, tmp_path: Path) -> None:
    run = short(name, precision=precision)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    on(1, run, whole)
    assert rows(whole)[-1]["train_loss"] < rows(whole)[0]["train_loss"] < 1.5
    on(1, run, stopped, How(stop=(0, 7)))
    snapshot = checkpoint.load(stopped / CHECKPOINT)
    trainer = train.Trainer(run, stopped, 1e9, Hooks())
    trainer.restore(snapshot)
    assert trainer.scaler.state_dict() == snapshot["scaler"]
    assert snapshot["scaler"].get("_growth_tracker") == (7 if precision == "float16" else None)
    on(1, run, stopped)
    assert_same(stopped, whole)


def test_two_processes_of_the_command_stop_where_two_ranks_would(tmp_path: Path) -> None:
    folder, other = tmp_path / "sgd" / "seed_0", tmp_path / "other"
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.imagenet", *smoke("sgd", tmp_path), "--nproc=2"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=environment.ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 100
    while not (folder / "meta_data_0.json").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert errors.splitlines()[-1] == "stopped; run the same command again to resume"
    assert not (folder / "model.pt").exists()

    ours = checkpoint.load(folder / CHECKPOINT)
    assert on(2, experiment("sgd"), other, How(stop=(0, ours["step"]))) is None
    theirs = checkpoint.load(other / CHECKPOINT)
    for part in ("settings", "process", "scaler", "loss_sums", "step", "preemptions"):
        assert ours[part] == theirs[part], part
    for part in ("model", "optimizer"):
        torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config=sgd"], "--data_dir is missing"),
        (["--config=sgd", "--smoke", "--data_dir=x"], "--data_dir=x: generated images take none"),
    ],
    ids=str,
)
def test_mistakes_end_in_one_line(flags: list[str], message: str, tmp_path: Path) -> None:
    ended = finish(*flags, f"--output={tmp_path}")
    assert ended.code == 2
    assert ended.errors.startswith(f"error: {message}") and ended.errors.count("\n") == 1
