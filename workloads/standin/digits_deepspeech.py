"""`digits_deepspeech` stands in for librispeech_deepspeech: it reads lines of handwritten digits.

No sound is in it: a line is an image of 8 x 54 pixels that the network reads as a spectrogram, rows
as frequencies and columns as time, and CTC writes its three to seven digits. A line is made of the
1,797 real 8 x 8 images that scikit-learn ships, whose places are drawn: at random heights, every
one overlapping the last by one to five columns.

Images, not lines, are split into training, validation and test, so no image is in two of them; what
one person wrote may be, as the data do not name the writers. Every training batch is composed anew
from its own random numbers; validation and test lines are fixed. The metric keeps the official name
`wer` but counts digits where that counts words. There is no SpecAugment: the composition is the
augmentation.
"""

import functools
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from workloads.standin.base import SPLIT_SEED
from workloads.standin.batches import Augmentation, Batch, Table
from workloads.standin.ctc import CtcWorkload
from workloads.standin.deepspeech import DeepSpeech
from workloads.standin.packaged_data import locate

SIDE = 8
DIGITS = 10
FEWEST, MOST = 3, 7
# Columns between two images, whose margins are mostly blank: negative ones are overlaps.
LEAST_GAP, MOST_GAP = -5, -1
MOST_OFFSET = 4
MOST_RISE = 1
COLUMNS = MOST_OFFSET + MOST * SIDE + (MOST - 1) * MOST_GAP
IMAGES = {"train": 897, "validation": 450, "test": 450}
LINES = {"train": 2048, "validation": 480, "test": 480}

# Images [n, 8, 8] from 0 to 1, and their digits [n].
Digits = tuple[NDArray[np.float32], NDArray[np.int64]]


def compose(digits: Digits, lines: int, generator: np.random.Generator) -> Table:
    """Draws lines of random digits at random places; deterministic in the generator.

    Where digits overlap, the darker pixel counts; what a digit's height moves out of the line is
    lost.

    Returns:
      `inputs` float32 [lines, 8, 54], and `targets` integers [lines, 7]: a digit plus one, filled
      up with zeros.
    """
    images, classes = digits
    counts = generator.integers(FEWEST, MOST + 1, lines)
    present = np.arange(MOST) < counts[:, None]
    chosen = generator.integers(len(images), size=(lines, MOST))
    gaps = generator.integers(LEAST_GAP, MOST_GAP + 1, (lines, MOST))
    gaps[:, 0] = generator.integers(MOST_OFFSET + 1, size=lines) - SIDE
    left = (gaps + SIDE).cumsum(1)
    top = generator.integers(2 * MOST_RISE + 1, size=(lines, MOST))
    canvas = np.zeros((lines, SIDE + 2 * MOST_RISE, COLUMNS), dtype=np.float32)
    side = np.arange(SIDE)
    for k in range(MOST):
        place = (
            np.arange(lines)[:, None, None],
            (top[:, k, None] + side)[:, :, None],
            (left[:, k, None] + side)[:, None, :],
        )
        ink = images[chosen[:, k]] * present[:, k, None, None]
        canvas[place] = np.maximum(canvas[place], ink)
    inputs = np.ascontiguousarray(canvas[:, MOST_RISE:-MOST_RISE])
    targets = (classes[chosen] + 1) * present
    return {"inputs": torch.from_numpy(inputs), "targets": torch.from_numpy(targets)}


def recompose(batch: Batch, generator: np.random.Generator, digits: Digits) -> Batch:
    """Exchanges a batch's lines for as many new ones."""
    device = batch["inputs"].device
    lines = compose(digits, len(batch["inputs"]), generator)
    return batch | {name: values.to(device) for name, values in lines.items()}


class DigitsDeepspeechWorkload(CtcWorkload):
    """Lines of digits; metrics wer (edits per digit) and ctc_loss (per digit)."""

    name: ClassVar[str] = "digits_deepspeech"
    eval_batch_size = 240

    @functools.cached_property
    def digits(self) -> dict[str, Digits]:
        """The images and digits of every split."""
        path = locate("sklearn", "datasets/data/digits.csv.gz")
        values = pd.read_csv(path, header=None, dtype=np.float32).to_numpy()
        order = np.random.default_rng(SPLIT_SEED).permutation(len(values))
        images = (values[order, :-1] / 16).reshape(-1, SIDE, SIDE)
        classes = values[order, -1].astype(np.int64)
        bounds = np.cumsum(list(IMAGES.values()))[:-1]
        parts = zip(np.split(images, bounds), np.split(classes, bounds), strict=True)
        return dict(zip(IMAGES, parts, strict=True))

    def load_tables(self) -> dict[str, Table]:
        return {
            split: compose(self.digits[split], lines, np.random.default_rng([SPLIT_SEED, seed]))
            for seed, (split, lines) in enumerate(LINES.items())
        }

    def augmentation(self) -> Augmentation:
        return functools.partial(recompose, digits=self.digits["train"])

    def build_model(self) -> nn.Module:
        return DeepSpeech(bins=SIDE, symbols=1 + DIGITS)
