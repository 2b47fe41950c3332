"""ImageNet from a folder, or few generated images that need no data; and the ranks' shares."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from common.cli import UserError
from workloads.standin import replicas

Batches = DataLoader[tuple[Tensor, Tensor]]

CLASSES, SMOKE_CLASSES = 1000, 4
SIZE, SMOKE_SIZE = 224, 32
_SMOKE_IMAGES = 320
# Of ImageNet's training images, per channel of RGB in [0, 1]; the values of torchvision's models.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def loaders(
    folder: Path | None, batch_size: int, workers: int, seed: int
) -> tuple[Batches, Any, Batches]:
    """This rank's training batches, their sampler, and its share of the validation batches.

    All ranks together take the same global batch at each step, however many they are, and the
    remainder of an epoch is dropped. Batches are images [size, 3, edge, edge] and labels int64.

    Args:
      folder: holds `train` and `val`, each with one folder of images per class; None generates.
      workers: processes that decode and augment images, for each rank; 0 does it in the rank.
    """
    rows = replicas.rows(batch_size)
    train, validation = _generated() if folder is None else _imagenet(folder)
    if len(train) < batch_size:
        raise UserError(f"batch_size={batch_size} is more than the {len(train)} training images")
    settings: dict[str, Any] = {
        "batch_size": rows.stop - rows.start,
        "num_workers": workers if folder else 0,
        "pin_memory": torch.cuda.is_available(),
    }
    ranks, rank = replicas.count(), replicas.rank()
    sampler: Any = DistributedSampler(train, ranks, rank, seed=seed, drop_last=True)
    share: Any = range(rank, len(validation), ranks)
    return (
        DataLoader(train, sampler=sampler, drop_last=True, **settings),
        sampler,
        DataLoader(validation, sampler=share, **settings),
    )


def _generated() -> tuple[Any, Any]:
    """A smooth pattern per class under noise, for training and a third as many to validate."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(SMOKE_CLASSES, 3, 4, 4, generator=generator)
    patterns = F.interpolate(coarse, size=[SMOKE_SIZE] * 2, mode="bilinear")
    sets = []
    for count in (_SMOKE_IMAGES, _SMOKE_IMAGES // 3):
        labels = torch.arange(count) % SMOKE_CLASSES
        noise = torch.randn(count, *patterns.shape[1:], generator=generator)
        sets.append(TensorDataset(patterns[labels] + 0.5 * noise, labels))
    return sets[0], sets[1]


def _imagenet(folder: Path) -> tuple[Any, Any]:
    for name in ("train", "val"):
        if not (folder / name).is_dir():
            raise UserError(f"--data_dir={folder}: has no folder {name!r} (docs/imagenet.md)")
    try:
        from torchvision import transforms
        from torchvision.datasets import ImageFolder
    except (ImportError, RuntimeError) as error:  # the latter for another torch's torchvision
        raise UserError(f"torchvision: {error}; `make imagenet` installs it") from error

    # Goyal et al. 2017, section 5.1, after Szegedy et al. 2015, with torchvision's defaults.
    crop = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip()]
    # He et al. 2019, section 2.1.
    middle = [transforms.Resize(256), transforms.CenterCrop(SIZE)]
    to_tensor = [transforms.ToTensor(), transforms.Normalize(_MEAN, _DEVIATION)]
    sets = []
    for name, steps in (("train", crop), ("val", middle)):
        try:
            images = ImageFolder(str(folder / name), transforms.Compose([*steps, *to_tensor]))
        except FileNotFoundError as error:
            raise UserError(f"--data_dir: {str(error).splitlines()[0]}") from error
        if len(images.classes) != CLASSES:
            raise UserError(
                f"--data_dir: {folder / name} has {len(images.classes)} classes, not {CLASSES}"
            )
        sets.append(images)
    return sets[0], sets[1]
