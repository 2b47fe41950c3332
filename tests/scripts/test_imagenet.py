"""ImageNet: both recipes learn on generated images, resume bitwise, and train in two ranks."""

import csv
import dataclasses
import itertools
import json
from unittest import mock

import pytest
import torch
from torch import nn

from common.cli import UserError
from scripts.benchmark import model_shapes
from scripts.imagenet import config as configs
from scripts.imagenet import data, train
from scripts.imagenet.train import Experiment
from scripts.local.runner import Stopped
from scripts.local.trial import CHECKPOINT
from submission.shampoo import Shampoo
from tests import training_ranks
from tests.scripts.commands import finish, must_refuse, must_succeed

RECIPES = ("shampoo", "sgd")
SHAMPOO, SGD = map(configs.read, RECIPES)


def run_ranks(world, name, folder, stop_at=0, smooth=False):
    """Runs a recipe as --smoke does until a rank is asked to stop at step `stop_at`, if any.

    With `smooth`, in float64 and without normalisation, whose shares differ with the ranks.
    """
    folder.mkdir(exist_ok=True, parents=True)
    training_ranks.run(world, _train, name, folder, stop_at, smooth)


def _train(rank, name, folder, stop_at, smooth):
    experiment = Experiment(name, configs.read(name).shrunk(), None)
    steps = itertools.count(1)
    if smooth:
        torch.set_default_dtype(torch.float64)
        network = train.smoke_network(nn.Identity)
        mock.patch.object(train, "build_network", lambda smoke: network).start()
    try:
        train.run(experiment, folder, lambda: rank == 0 and next(steps) == stop_at)
    except Stopped:
        assert stop_at


def rows(folder):
    """The log without its times, which no two runs share."""
    with (folder / train.LOG).open(newline="") as stream:
        log = [{name: float(text) for name, text in row.items()} for row in csv.DictReader(stream)]
    assert tuple(log[0]) == train.COLUMNS
    return [{name: row[name] for name in row if name != "seconds"} for row in log]


def weights(folder):
    return torch.load(folder / train.MODEL, weights_only=True)


def assert_same(first, second):
    assert rows(first) == rows(second)
    torch.testing.assert_close(weights(first), weights(second), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_run_learns_and_resumes_to_the_bitwise_same_end(name, tmp_path):
    folder = tmp_path / "whole"
    run_ranks(1, name, folder)
    log = rows(folder)
    assert [(row["epoch"], row["step"]) for row in log] == [(n, 10 * n) for n in range(1, 7)]
    assert log[-1]["train_loss"] < log[2]["train_loss"] < log[0]["train_loss"]
    status = json.loads((folder / "status.json").read_text())
    assert status["step"] == 60 and status["validation_accuracy"] > 0.9

    command = ("-m", "scripts.imagenet", f"--config={name}", "--smoke", f"--output={tmp_path}")
    stopped = tmp_path / name / "seed_0"
    run_ranks(1, name, stopped, stop_at=25)
    assert len(rows(stopped)) == 2 and not (stopped / train.MODEL).exists()
    out = must_succeed(finish(*command))
    assert f"{name}, seed 0: complete, top-1 accuracy" in out
    names = {".lock", "config.json", "log.csv", "model.pt", "status.json"}
    names |= {"meta_data_0.json", "meta_data_1.json"}
    assert {path.name for path in stopped.iterdir()} == names
    assert_same(stopped, folder)
    assert "already complete" in finish(*command).stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_ranks_resume_to_the_bitwise_same_end(name, tmp_path):
    run_ranks(2, name, tmp_path / "whole")
    run_ranks(2, name, tmp_path / "stopped", stop_at=25)
    run_ranks(2, name, tmp_path / "stopped")
    assert_same(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_ranks_take_the_steps_of_one_process(name, tmp_path):
    for world in (1, 2):
        run_ranks(world, name, tmp_path / str(world), smooth=True)
    for expected, result in zip(rows(tmp_path / "1"), rows(tmp_path / "2"), strict=True):
        assert result == pytest.approx(expected, rel=1e-8)
    expected, result = weights(tmp_path / "1"), weights(tmp_path / "2")
    torch.testing.assert_close(expected, result, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_the_command_trains_in_two_processes_and_refuses_another_run(tmp_path):
    command = ("-m", "scripts.imagenet", "--config=sgd", "--smoke", f"--output={tmp_path}")
    must_succeed(finish(*command, "--nproc=2"))
    run_ranks(2, "sgd", tmp_path / "whole")
    assert_same(tmp_path / "sgd" / "seed_0", tmp_path / "whole")
    assert "nproc=2, not nproc=1" in must_refuse(finish(*command))
    assert must_refuse(finish(*command, "--data_dir=x")).startswith("error: --data_dir: ")
    status = tmp_path / "sgd" / "seed_0" / "status.json"
    status.write_text('{"status": "complete", "validation_accuracy": "x"}')
    assert f"error: {status} lacks" in must_refuse(finish(*command, "--nproc=2"))


def test_a_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / CHECKPOINT).write_text("damage")
    with pytest.raises(UserError, match="cannot resume from checkpoint"):
        train.run(Experiment("sgd", SGD.shrunk(), None), tmp_path, lambda: False)


def test_bfloat16_learns():
    config = dataclasses.replace(SHAMPOO.shrunk(), precision="bfloat16")
    trainer = train.Trainer(Experiment("shampoo", config, None), lambda: False)
    for _ in range(2):
        trainer.train_epoch()
    first, second = (row["train_loss"] for row in trainer.rows)
    assert second < first < 2


def test_the_network_is_resnet_50():
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    model = train.build_network(smoke=False)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes == model_shapes.shapes("resnet50")
    assert sum(p.numel() for p in model.parameters()) == 25_557_032
    scales = [p for name, p in model.named_parameters() if name.endswith("bn3.weight")]
    assert len(scales) == 16 and not any(map(torch.any, scales))


def test_the_two_recipes_differ_in_optimizer_and_length_alone():
    first, second = vars(SHAMPOO), vars(SGD)
    assert {key for key in first if first[key] != second[key]} == {"optimizer", "epochs"}
    assert (first["epochs"], second["epochs"]) == (60, 90)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch'"),
        ({"lr": None}, "lr is None, not of type float"),
        ({"epochs": 2.5}, "epochs is 2.5, not of type int"),
        ({"batch_size": True}, "batch_size is True, not of type int"),
        ({"warmup_epochs": 90}, "epochs and batch_size must be >= 1, warmup_epochs in"),
        ({"precision": "half"}, "label_smoothing must be in .* precision float32 or bfloat16"),
        ({"optimizer": {"name": "adam"}}, "optimizer.name must be one of sgd, shampoo"),
        ({"optimizer": {"name": "sgd", "betas": [0, 0.9]}}, ".*betas"),
        ({"optimizer": {"name": "shampoo", "averaging": "ema"}}, "optimizer.averaging cannot"),
        ({"optimizer": {"name": "shampoo", "momentum": 2}}, "momentum must be a number"),
    ],
    ids=str,
)
def test_a_bad_configuration_is_refused_by_file_and_key(write_json, change, message):
    path = write_json("own.json", vars(SGD) | change)
    with pytest.raises(UserError, match=rf"own\.json: {message}"):
        configs.read(str(path))


def test_a_missing_key_and_a_missing_file_are_named(write_json):
    values = {key: value for key, value in vars(SGD).items() if key != "epochs"}
    with pytest.raises(UserError, match=r"own\.json: epochs is missing"):
        configs.read(str(write_json("own.json", values)))
    with pytest.raises(UserError, match=r"--config=adam: give a \.json file or one of sgd, sh"):
        configs.read("adam")


def test_only_matrices_decay_and_both_recipes_at_the_same_rate():
    """L2 decay through momentum 0.9 is ten times decoupled decay of the same strength."""
    after = []
    for config, kind in ((SHAMPOO, Shampoo), (SGD, torch.optim.SGD)):
        model = nn.Linear(4, 4)
        nn.init.ones_(model.weight)
        optimizer = config.build_optimizer(model)
        assert type(optimizer) is kind
        assert optimizer.param_groups[1]["params"] == [model.bias]
        assert optimizer.param_groups[1]["weight_decay"] == 0
        for _ in range(200):
            model.weight.grad = torch.zeros_like(model.weight)
            optimizer.step()
        after.append(model.weight.detach().mean().item())
    assert 0.90 < after[0] < 0.93
    assert after[0] == pytest.approx(after[1], abs=5e-3)


def test_the_learning_rate_rises_and_falls():
    rates = [SGD.learning_rate(step, 10) for step in range(900)]
    assert rates[0] == pytest.approx(0.4 / 50)
    assert rates[49] == rates[50] == 0.4 == max(rates)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[50:]))
    assert 0 < rates[-1] < 1e-5


def test_folders_that_are_not_imagenet_s_are_refused(tmp_path):
    with pytest.raises(UserError, match="has no folder 'train'"):
        data.loaders(tmp_path, 32, workers=0, seed=0)
