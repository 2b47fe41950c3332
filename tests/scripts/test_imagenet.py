"""Runs of both recipes on generated images: they learn, resume bitwise, and train in two ranks."""

import csv
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.cli import UserError
from scripts import checkpoint, environment
from scripts.imagenet import config as configs
from scripts.imagenet import train
from scripts.imagenet.data import Source, loaders
from scripts.imagenet.resnet import ResNet
from scripts.imagenet.train import Experiment
from scripts.runner import Hooks, Stopped
from scripts.trial import CHECKPOINT
from tests import training_ranks
from tests.scripts.commands import finish

RECIPES = ("shampoo", "sgd")


def experiment(name: str, **changes: Any) -> Experiment:
    config = configs.read(configs.find(name)).shrunk()
    return Experiment(name, dataclasses.replace(config, **changes), Source(None))


def rows(folder: Path) -> list[dict[str, float]]:
    """The log without its times, which no two runs share."""
    with (folder / "log.csv").open(newline="") as stream:
        found = [
            {key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)
        ]
    assert list(found[0]) == list(train.COLUMNS)
    for row in found:
        del row["seconds"]
    return found


def weights(folder: Path) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = torch.load(folder / "model.pt", weights_only=True)
    return loaded


def assert_same(first: Path, second: Path) -> None:
    assert rows(first) == rows(second)
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def take_part(
    rank: int,
    run: Experiment,
    folder: Path,
    period: float = 1e9,
    stops: tuple[int, int] = (-1, -1),
    changes: Any = None,
) -> dict[str, Any] | None:
    """Trains on this rank; asks to stop if it is `stops[0]`, at step `stops[1]`."""
    steps = iter(range(1, 1000))
    hooks = Hooks(stop_requested=lambda: (rank, next(steps)) == stops)
    if changes is not None:
        changes()
    folder.mkdir(exist_ok=True)
    try:
        return train.run(run, folder, period, hooks)
    except Stopped:
        return None


def on(world: int, *args: Any) -> Any:
    """What the ranks return, which must be the same."""
    found = training_ranks.run(world, take_part, *args)
    assert all(each == found[0] for each in found)
    return found[0]


@pytest.fixture(scope="module", params=RECIPES)
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A whole run in one process: its experiment, folder and status."""
    run, folder = experiment(request.param), tmp_path_factory.mktemp(request.param)
    return run, folder, on(1, run, folder)


def test_a_run_learns(alone: Any) -> None:
    run, folder, status = alone
    log = rows(folder)
    assert [row["epoch"] for row in log] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in log] == [10, 20, 30, 40, 50, 60]
    for name in ("train_loss", "validation_loss"):
        assert log[-1][name] < log[2][name] < log[0][name]
    assert log[-1]["validation_accuracy"] > 0.9, "of four classes"
    assert status == {
        "status": "complete",
        "epochs": 6,
        "step": 60,
        "seconds": status["seconds"],
        "validation_accuracy": log[-1]["validation_accuracy"],
    }
    assert not (folder / CHECKPOINT).exists()

    model = ResNet(run.config.depths, run.config.width, run.config.classes).eval()
    model.load_state_dict(weights(folder))
    batches = list(loaders(run.source, run.config, 0)[2])
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert len(labels) == 107 and len(labels) % run.config.batch_size
    with torch.no_grad():
        logits = model(images)
    loss = F.cross_entropy(logits, labels).item()
    assert log[-1]["validation_loss"] == pytest.approx(loss, rel=1e-5)
    right = (logits.argmax(1) == labels).double().mean().item()
    assert log[-1]["validation_accuracy"] == pytest.approx(right)


def test_a_stopped_run_resumes_to_the_bitwise_same_end(alone: Any, tmp_path: Path) -> None:
    run, folder, _ = alone
    for step in (13, 7, 20):  # within an epoch, within another, and with the end of the fourth
        assert on(1, run, tmp_path, 1e9, (0, step)) is None
        assert not (tmp_path / "model.pt").exists()
    status = on(1, run, tmp_path, 0.0)  # and a checkpoint after every step
    assert status["step"] == 60
    assert_same(tmp_path, folder)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run = experiment("sgd")
    on(1, run, tmp_path, 1e9, (0, 3))
    with pytest.raises(UserError, match=r"was written with lr=0.0125, not lr=0.5; choose another"):
        train.run(experiment("sgd", lr=0.5), tmp_path, 1e9, Hooks())
    with (tmp_path / CHECKPOINT).open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"damage")
    with pytest.raises(UserError, match="cannot resume from checkpoint"):
        train.run(run, tmp_path, 1e9, Hooks())


@pytest.mark.parametrize("name", RECIPES)
def test_two_ranks_resume_to_the_bitwise_same_end(name: str, tmp_path: Path) -> None:
    run, whole, stopped = experiment(name, epochs=2), tmp_path / "whole", tmp_path / "stopped"
    on(2, run, whole)
    assert on(2, run, stopped, 1e9, (1, 14)) is None, "a stop asked of one rank stops both"
    on(2, run, stopped, 0.0)
    assert_same(stopped, whole)


class TwoShares(nn.BatchNorm2d):
    """Normalises as two ranks do that take every other image; the first one's statistics count."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        out = torch.empty_like(x)
        out[0::2] = super().forward(x[0::2])
        out[1::2] = F.batch_norm(
            x[1::2], None, None, self.weight, self.bias, training=True, eps=self.eps
        )
        return out


def in_float64() -> None:
    """Has this process, which ends with the run, train in float64."""
    torch.set_default_dtype(torch.float64)


def in_float64_as_two_ranks() -> None:
    """The same, normalising as two ranks do."""
    in_float64()
    mock.patch.object(
        train,
        "build_model",
        lambda config: ResNet(config.depths, config.width, config.classes, TwoShares),
    ).start()


@pytest.mark.parametrize("name", RECIPES)
def test_two_ranks_take_the_steps_of_one_process(name: str, tmp_path: Path) -> None:
    run = experiment(name, epochs=2)
    on(1, run, tmp_path / "one", 1e9, (-1, -1), in_float64_as_two_ranks)
    on(2, run, tmp_path / "two", 1e9, (-1, -1), in_float64)
    for one, two in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert two == pytest.approx(one, rel=1e-8)
    ours = weights(tmp_path / "two")
    for key, value in weights(tmp_path / "one").items():
        assert value.dtype in (torch.float64, torch.int64)
        torch.testing.assert_close(ours[key], value, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("name", "precision"), [("sgd", "bfloat16"), ("shampoo", "float16")])
def test_lower_precision_learns_and_resumes(name: str, precision: str, tmp_path: Path) -> None:
    run = experiment(name, precision=precision, epochs=2)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    on(1, run, whole)
    assert rows(whole)[-1]["train_loss"] < rows(whole)[0]["train_loss"] < 1.5
    on(1, run, stopped, 1e9, (0, 14))
    snapshot = checkpoint.load(stopped / CHECKPOINT)
    trainer = train.Trainer(run, stopped, 1e9, Hooks())
    trainer.restore(snapshot)
    assert trainer.scaler.state_dict() == snapshot["scaler"]
    assert snapshot["scaler"].get("_growth_tracker") == (14 if precision == "float16" else None)
    on(1, run, stopped)
    assert_same(stopped, whole)


def test_the_command_is_stopped_and_resumes_in_two_processes(tmp_path: Path) -> None:
    command = ["-m", "scripts.imagenet", "--config=sgd", "--smoke", "--nproc=2"]
    command += [f"--output={tmp_path}"]
    folder = tmp_path / "sgd" / "seed_0"
    process = subprocess.Popen(
        [sys.executable, *command],
        stderr=subprocess.PIPE,
        text=True,
        cwd=environment.ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 100
    while not (folder / "log.csv").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert errors.splitlines()[-1] == "stopped; run the same command again to resume"
    assert (folder / CHECKPOINT).exists() and not (folder / "model.pt").exists()

    done = finish(*command)
    assert done.returncode == 0, done.stderr
    assert "sgd, seed 0: complete, top-1 accuracy 0." in done.stdout
    on(2, experiment("sgd"), tmp_path / "whole")
    assert_same(folder, tmp_path / "whole")
    names = {"config.json", "log.csv", "model.pt", "status.json"}
    assert {path.name for path in folder.iterdir() if "meta" not in path.name} == names
    assert len(list(folder.glob("meta_data_*.json"))) == 2

    before = (folder / "model.pt").stat().st_mtime_ns
    again = finish(*command[:4], f"--output={tmp_path}")
    assert again.returncode == 0 and "already complete" in again.stdout
    assert (folder / "model.pt").stat().st_mtime_ns == before
    other = finish(*command[:4], f"--output={tmp_path}", "--generated_images=64")
    assert other.returncode == 2 and other.stderr.count("\n") == 1
    assert "not data='generated, 64 images'; choose another --output, or --ov" in other.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config=sgd"], "--data_dir is missing"),
        (["--config=sgd", "--smoke", "--data_dir=x"], "--data_dir=x: generated images take none"),
    ],
    ids=str,
)
def test_mistakes_end_in_one_line(flags: list[str], message: str, tmp_path: Path) -> None:
    done = finish("-m", "scripts.imagenet", *flags, f"--output={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
