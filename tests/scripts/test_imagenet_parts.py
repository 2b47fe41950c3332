"""ImageNet's parts: the network, the configurations, the optimizers, the schedule, the images."""

import importlib.util
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from common.cli import UserError
from scripts.benchmark import model_shapes
from scripts.imagenet import config as configs
from scripts.imagenet import data
from scripts.imagenet.resnet import Bottleneck, ResNet
from submission.shampoo import Shampoo
from tests import training_ranks

WriteJson = Callable[[str, Any], Path]
SHAMPOO, SGD = (configs.read(configs.CONFIGS / f"{name}.json") for name in ("shampoo", "sgd"))
SMALL = SGD.shrunk()


def test_the_network_is_resnet_50() -> None:
    model = ResNet()
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes == model_shapes.shapes("resnet50")
    assert sum(p.numel() for p in model.parameters()) == 25_557_032
    strides = [m.conv2.stride for m in model.modules() if isinstance(m, Bottleneck)]
    assert strides.count((2, 2)) == 3 and len(strides) == 16
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_the_network_computes_what_torchvision_s_does() -> None:
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    torch.manual_seed(0)
    ours, theirs = ResNet(), models.resnet50()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(ours(images), theirs(images))


def test_a_block_begins_as_its_shortcut() -> None:
    block = next(m for m in ResNet((1, 1, 1, 1), 8, 4).modules() if isinstance(m, Bottleneck))
    x = torch.randn(2, 8, 5, 5)
    assert block.downsample is not None
    torch.testing.assert_close(block(x), torch.relu(block.downsample(x)))


def test_the_two_recipes_differ_in_optimizer_and_length_alone() -> None:
    first, second = SHAMPOO.plain(), SGD.plain()
    assert {key for key in first if first[key] != second[key]} == {"optimizer", "epochs"}
    assert (first["epochs"], second["epochs"]) == (60, 90)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch'"),
        ({"lr": None}, "lr must be a finite number > 0, got None"),
        ({"epochs": 2.5}, "epochs must be an integer >= 1, got 2.5"),
        ({"batch_size": True}, "batch_size must be an integer >= 1, got True"),
        ({"warmup_epochs": 90}, r"warmup_epochs must be a number in \[0, 90\)"),
        ({"precision": "half"}, "precision must be one of float32, bfloat16, float16, got 'half'"),
        ({"milestones": [30]}, "milestones must be left out where decay is cosine"),
        ({"decay": "step", "milestones": [60, 30]}, "milestones must be increasing"),
        ({"depths": [3, 4, 6]}, "depths must be four integers >= 1"),
        ({"optimizer": "sgd"}, "optimizer must be an object"),
        ({"optimizer": {"name": "adam"}}, "optimizer.name must be one of sgd, shampoo"),
        ({"optimizer": {"name": "sgd", "betas": [0, 0.9]}}, "optimizer.betas is no option of sgd"),
        ({"optimizer": {"name": "sgd", "lr": 1}}, "optimizer.lr is .*lr is a key beside optimizer"),
        ({"optimizer": {"name": "shampoo", "averaging": "ema"}}, "optimizer.averaging is no opt"),
        ({"optimizer": {"name": "shampoo", "momentum": 2}}, "optimizer: momentum must be a number"),
    ],
    ids=str,
)
def test_a_bad_configuration_is_refused_by_file_and_key(
    write_json: WriteJson, change: dict[str, Any], message: str
) -> None:
    path = write_json("own.json", SGD.plain() | {"milestones": []} | change)
    with pytest.raises(UserError, match=rf"own\.json: {message}"):
        configs.read(path)


def test_a_missing_key_and_a_missing_file_are_named(write_json: WriteJson) -> None:
    values = SGD.plain()
    del values["epochs"]
    with pytest.raises(UserError, match=r"own\.json: key 'epochs' is missing"):
        configs.read(write_json("own.json", values))
    with pytest.raises(UserError, match=r"--config=adam: give a \.json file or one of sgd, sh"):
        configs.find("adam")


def test_configurations_survive_json() -> None:
    for config in (SHAMPOO, SGD, SMALL):
        assert configs.Config(**json.loads(json.dumps(config.plain()))) == config


def test_only_matrices_decay_and_vectors_take_the_grafted_step() -> None:
    for config, kind in ((SHAMPOO, Shampoo), (SGD, torch.optim.SGD)):
        model = ResNet((1, 1, 1, 1), 8, 4)
        optimizer = config.shrunk().build_optimizer(model)
        assert type(optimizer) is kind
        matrices, vectors = optimizer.param_groups
        assert matrices["weight_decay"] > 0 and vectors["weight_decay"] == 0
        assert {p.ndim for p in vectors["params"]} == {1}
        assert 1 not in {p.ndim for p in matrices["params"]}
        count = len(matrices["params"]) + len(vectors["params"])
        assert count == len(list(model.parameters()))
    assert "SGD (vector)" in repr(SHAMPOO.shrunk().build_optimizer(model))


def test_both_decay_weights_at_the_same_rate() -> None:
    """L2 decay through momentum 0.9 is ten times decoupled decay of the same strength."""
    after = []
    for config in (SHAMPOO, SGD):
        weight = torch.nn.Parameter(torch.ones(4, 4))
        model = torch.nn.ParameterList([weight])
        optimizer = config.build_optimizer(model)
        for _ in range(200):
            weight.grad = torch.zeros_like(weight)
            optimizer.step()
        after.append(weight.detach().mean().item())
    assert 0.90 < after[0] < 0.93
    assert after[0] == pytest.approx(after[1], abs=5e-3)


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [SGD.lr * SGD.lr_factor(step, 10) for step in range(900)]
    assert rates[0] == pytest.approx(0.4 / 50)
    assert rates[49] == rates[50] == 0.4 == max(rates)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[50:]))
    assert 0 < rates[-1] < 1e-5
    steps = configs.Config(**SGD.plain() | {"decay": "step", "milestones": [30, 60, 80]})
    found = [steps.lr_factor(10 * epoch, 10) for epoch in (4, 5, 29, 30, 60, 80, 89)]
    assert found == pytest.approx([41 / 50, 1, 1, 0.1, 0.01, 0.001, 0.001])


def share(rank: int, epoch: int, first_step: int) -> tuple[list[Any], list[int], int]:
    """This rank's training examples and validation labels."""
    source = data.Source(None, generated=75)
    training, order, validation = data.loaders(source, SMALL, seed=3)
    order.epoch, order.first_step = epoch, first_step
    labels = [int(label) for _, batch in validation for label in batch]
    assert sum(len(batch) for _, batch in training) == len(list(order))
    return list(order), labels, order.steps


def test_ranks_share_the_batches_of_one_process() -> None:
    ((alone, labels, steps),) = training_ranks.run(1, share, 4, 0)
    assert (len(alone), len(labels), steps) == (64, 25, 2)
    together = training_ranks.run(2, share, 4, 0)
    for step in range(2):
        rows = slice(16 * step, 16 * (step + 1))
        union = [example for examples, _, _ in together for example in examples[rows]]
        assert sorted(union) == sorted(alone[32 * step : 32 * (step + 1)])
    assert [len(each) for _, each, _ in together] == [13, 12]
    assert sorted(together[0][1] + together[1][1]) == sorted(labels)
    assert {epoch for epoch, _ in alone} == {4}
    assert share(0, 4, 1)[0] == alone[32:]
    assert [index for _, index in share(0, 5, 0)[0]] != [index for _, index in alone]


def test_generated_images_are_the_same_every_time() -> None:
    first, again = (data.Generated(12, SMALL, 0, mirrors=True) for _ in range(2))
    assert torch.equal(first[3, 5][0], again[3, 5][0]) and first[3, 5][1] == 1
    views = [first[epoch, 5][0] for epoch in range(12)]
    assert 0 < sum(torch.equal(view, views[0].flip(-1)) for view in views) < 12
    other = data.Generated(12, SMALL, 1, mirrors=True)
    assert not torch.equal(first[0, 0][0], other[0, 0][0])


def test_batches_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="batch_size=32 is more than there are training images, 9"):
        data.loaders(data.Source(None, generated=9), SMALL, seed=0)


def folder(path: Path, classes: int) -> Path:
    """A folder as ImageNet's: five training images per class and two to validate."""
    draw = torch.Generator().manual_seed(0)
    for part, count in (("train", 5), ("val", 2)):
        for label in range(classes):
            place = path / part / f"n{label:08}"
            place.mkdir(parents=True)
            for number in range(count):
                pixels = torch.randint(256, (70, 60, 3), generator=draw, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(place / f"{number}.JPEG")
    return path


def test_folders_that_are_not_imagenet_s_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = data.Source(tmp_path)
    with pytest.raises(UserError, match="has no folder 'train'"):
        data.loaders(source, SMALL, seed=0)
    folder(tmp_path, 3)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="takes torchvision, which is not installed; `pip install"):
        data.loaders(source, SMALL, seed=0)


def test_images_are_read_and_augmented_by_seed_epoch_and_index(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    source = data.Source(folder(tmp_path, 7), workers=1)
    with pytest.raises(UserError, match=r"train has 7 classes, the configuration 4"):
        data.loaders(source, SMALL, seed=0)
    config = configs.Config(**SMALL.plain() | {"classes": 7, "batch_size": 8})
    state = torch.get_rng_state()
    epochs = []
    for workers, epoch in ((0, 0), (1, 0), (0, 1)):
        source = data.Source(tmp_path, workers=workers)
        training, order, validation = data.loaders(source, config, seed=0)
        order.epoch = epoch
        epochs.append(torch.cat([images for images, _ in training]))
        (images, labels), *rest = validation
        assert images.shape == (8, 3, 32, 32) and len(rest) == 1
        assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert epochs[0].shape == (32, 3, 32, 32)
    assert torch.equal(epochs[0], epochs[1]), "images depend on who loads them"
    assert not torch.equal(epochs[0], epochs[2])
    first = data.datasets(source, config, 0)[0]
    assert not torch.equal(first[0, 2][0], first[1, 2][0]), "two epochs, one augmentation"
    assert torch.equal(first[0, 2][0], first[0, 2][0])
    torch.set_rng_state(state)
    before = torch.get_rng_state()
    first[0, 2]
    assert torch.equal(before, torch.get_rng_state()), "augmentation moves the run's random state"
