import numpy as np
import pytest
import torch

from workloads.standin.mnist_digits import CLASSES, MAX_SHIFT, SIDE, shift_images
from workloads.standin.mnist_vit import MnistVitWorkload


@pytest.fixture(scope="module")
def mnist():
    return MnistVitWorkload()


@pytest.mark.parametrize(
    ("split", "per_class"), [("train", 300), ("validation", 100), ("test", 100)]
)
def test_splits_are_stratified(mnist, split, per_class):
    counts = np.bincount(mnist.tables[split]["targets"], minlength=CLASSES)
    assert counts.tolist() == [per_class] * CLASSES


def test_splits_share_no_image(mnist):
    rows = {
        split: {row.numpy().tobytes() for row in mnist.tables[split]["inputs"]}
        for split in ("train", "validation", "test")
    }
    assert sum(map(len, rows.values())) == len(set.union(*rows.values())) == 5000


def test_training_pixels_are_normalised(mnist):
    pixels = mnist.tables["train"]["inputs"]
    assert pixels.mean().item() == pytest.approx(0, abs=1e-4)
    assert pixels.std().item() == pytest.approx(1, abs=1e-4)


def test_shifts_move_each_image_by_at_most_two_pixels():
    images = torch.zeros(200, 1, SIDE, SIDE)
    images[:, 0, 14, 14] = 1
    moved = shift_images({"inputs": images}, np.random.default_rng(0), -0.5)["inputs"]
    assert moved.shape == images.shape
    where = (moved == 1).nonzero()[:, 2:] - 14
    assert len(where) == 200
    assert {tuple(w) for w in where.tolist()} == {
        (row, column)
        for row in range(-MAX_SHIFT, MAX_SHIFT + 1)
        for column in range(-MAX_SHIFT, MAX_SHIFT + 1)
    }
    assert set(moved.unique().tolist()) == {-0.5, 0.0, 1.0}


def test_training_images_are_shifted_and_evaluation_images_are_not(mnist):
    rows = {row.numpy().tobytes() for row in mnist.tables["train"]["inputs"]}
    shifted = next(mnist._build_input_queue(np.array([1, 2]), "train", "", 64))["inputs"]
    kept = sum(image.numpy().tobytes() in rows for image in shifted)
    assert kept < 20
    plain = next(mnist._build_input_queue(np.array([1, 2]), "eval_train", "", 64))["inputs"]
    assert all(image.numpy().tobytes() in rows for image in plain)
