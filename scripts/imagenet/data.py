"""Images and their order: ImageNet from a folder, or generated ones that need no data.

An image is drawn by its epoch and its index, (epoch, index), and its augmentation is a function of
the two and the seed. So any number of ranks and workers reads the same global batches, and a run
that resumes within an epoch continues with the very images that it would have seen.
"""

import dataclasses
import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from common.cli import UserError
from scripts.imagenet.config import Config
from workloads import prng
from workloads.standin import replicas

Example = tuple[int, int]
Batches = DataLoader[tuple[Tensor, Tensor]]

# Of ImageNet's training images, per channel of RGB in [0, 1]; the values of torchvision's models.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# He et al. 2019, section 2.1: a validation image is the middle 224 pixels of 256.
_MARGIN = 256 / 224


@dataclasses.dataclass(frozen=True)
class Source:
    """The source of images, a folder or a generator.

    Attributes:
      folder: holds `train` and `val`, each with one folder of images per class; None generates.
      generated: training images if they are generated; a third as many validate.
      workers: processes that decode and augment images, for each rank; 0 does it in the rank.
    """

    folder: Path | None
    generated: int = 320
    workers: int = 0

    @property
    def name(self) -> str:
        """Name of the images in a run's settings."""
        return "imagenet" if self.folder else f"generated, {self.generated} images"


class Order(Sampler[Example]):
    """This rank's training images, shuffled anew in every epoch.

    All ranks together take the same global batch at each step, however many they are. What is left
    of an epoch after its last full batch is not seen.

    Attributes:
      epoch: the epoch that iteration is over.
      first_step: the step within the epoch that it begins with.
    """

    def __init__(self, images: int, batch_size: int, seed: int) -> None:
        self.steps = images // batch_size
        self.epoch = self.first_step = 0
        self._share = batch_size // replicas.count()
        self._shard: DistributedSampler[int] = DistributedSampler(
            range(images),  # type: ignore[arg-type]
            replicas.count(),
            replicas.rank(),
            seed=prng.seed(prng.key(seed)),
            drop_last=True,
        )

    def __len__(self) -> int:
        return self.steps * self._share

    def __iter__(self) -> Iterator[Example]:
        self._shard.set_epoch(self.epoch)
        indices = itertools.islice(self._shard, self.first_step * self._share, len(self))
        return ((self.epoch, index) for index in indices)


class Generated(Dataset[tuple[Tensor, int]]):
    """A smooth pattern per class under noise; deterministic, and easy to learn.

    Args:
      images: how many there are.
      config: gives the number of classes and the images' size.
      part: another part has other noise.
      mirrors: whether an image is mirrored in half of all epochs.
    """

    def __init__(self, images: int, config: Config, part: int, mirrors: bool) -> None:
        self._images, self._mirrors = images, mirrors
        self._key = prng.fold_in(prng.key(0), part)
        generator = torch.Generator().manual_seed(0)
        coarse = torch.randn(config.classes, 3, 4, 4, generator=generator)
        self._patterns = F.interpolate(coarse, size=[config.image_size] * 2, mode="bilinear")

    def __len__(self) -> int:
        return self._images

    def __getitem__(self, example: Example) -> tuple[Tensor, int]:
        """An image [3, size, size] and its label."""
        epoch, index = example
        label = index % len(self._patterns)
        key = prng.fold_in(self._key, index)
        noise = torch.Generator().manual_seed(prng.seed(key))
        pattern = self._patterns[label]
        image = pattern + 0.5 * torch.randn(pattern.shape, generator=noise)
        if self._mirrors and prng.seed(prng.fold_in(key, epoch)) % 2:
            image = image.flip(-1)
        return image, label


class Augmented(Dataset[Any]):
    """A dataset whose transforms draw from a generator that knows seed, epoch and index alone."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self._dataset, self._key = dataset, prng.key(seed)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, example: Example) -> Any:
        key = prng.fold_in(prng.fold_in(self._key, example[0]), example[1])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(prng.seed(key))
            return self._dataset[example[1]]


def loaders(source: Source, config: Config, seed: int) -> tuple[Batches, Order, Batches]:
    """This rank's training batches, their order, and its share of the validation batches.

    Every validation image is in the share of exactly one rank. Batches are images
    [size, 3, edge, edge] and labels int64 [size].

    Raises:
      UserError: for a folder without the images, or without torchvision to read them; a batch that
        is larger than the training set, or does not divide evenly among the ranks.
    """
    rows = replicas.rows(config.batch_size)
    train, validation = datasets(source, config, seed)
    order = Order(len(train), config.batch_size, seed)
    if order.steps == 0:
        raise UserError(
            f"batch_size={config.batch_size} is more than there are training images, {len(train)}"
        )
    settings: dict[str, Any] = {
        "batch_size": rows.stop - rows.start,
        "num_workers": source.workers,
        "pin_memory": torch.cuda.is_available(),
        "persistent_workers": source.workers > 0,
    }
    share: Any = [(0, i) for i in range(replicas.rank(), len(validation), replicas.count())]
    return (
        DataLoader(train, sampler=order, **settings),
        order,
        DataLoader(validation, sampler=share, **settings),
    )


def datasets(source: Source, config: Config, seed: int) -> tuple[Any, Any]:
    """The training and the validation images, by (epoch, index); errors as of `loaders`."""
    if source.folder is None:
        count = source.generated
        return (
            Generated(count, config, part=0, mirrors=True),
            Generated(-(-count // 3), config, part=1, mirrors=False),
        )
    for name in ("train", "val"):
        if not (source.folder / name).is_dir():
            raise UserError(
                f"--data_dir={source.folder}: has no folder {name!r}; docs/imagenet.md says how "
                "images must lie there"
            )
    if importlib.util.find_spec("torchvision") is None:
        release = torch.__version__.partition("+")[0]
        raise UserError(
            "--data_dir: reading images takes torchvision, which is not installed; `pip install "
            f"torchvision torch=={release}` finds the one that goes with this torch"
        )
    from torchvision import transforms

    # Goyal et al. 2017, section 5.1, after Szegedy et al. 2015, with torchvision's defaults.
    size = config.image_size
    crop = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    middle = [transforms.Resize(round(_MARGIN * size)), transforms.CenterCrop(size)]
    train = _folder(source.folder / "train", config, crop)
    validation = _folder(source.folder / "val", config, middle)
    if train.classes != validation.classes:
        raise UserError(f"--data_dir={source.folder}: train and val have different classes")
    return Augmented(train, seed), Augmented(validation, seed)


def _folder(path: Path, config: Config, crop: list[Any]) -> Any:
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    to_tensor = [transforms.ToTensor(), transforms.Normalize(_MEAN, _DEVIATION)]
    try:
        folder = ImageFolder(str(path), transforms.Compose([*crop, *to_tensor]))
    except FileNotFoundError as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise UserError(f"--data_dir: {first_line}") from error
    if len(folder.classes) != config.classes:
        raise UserError(
            f"{path} has {len(folder.classes)} classes, the configuration {config.classes}"
        )
    return folder
