"""`brain_unet` stands in for fastmri: a U-Net that reconstructs slices of a brain from few lines.

The brain is the MNI template that nilearn ships, halved to voxels of 2 mm. A plane across it splits
it: what lies behind trains, in slices of three orientations; what lies before, the frontal lobes,
validates and tests in coronal slabs in turn, 4 mm apart. No voxel is in two splits; anatomy goes on
from slab to slab, so validation tells much of the test. The hemispheres are mirror images:
sagittal slices are of one of them only.

As officially, a quarter of the lines of k-space is kept, the model reads the normalised magnitude
of what they make up, and learns from absolute differences. The images are real, of one brain and
40 pixels wide. Training has new masks, shifts, flips and contrasts in every batch.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray

from submission.algoperf_api import spec
from workloads.standin import ssim
from workloads.standin.base import SPLIT_SEED, StandinWorkload
from workloads.standin.batches import Augmentation, Batch, Table
from workloads.standin.kspace import draw_masks, reconstruct
from workloads.standin.packaged_data import locate
from workloads.standin.unet import UNet

SIDE = 40
MAX_SHIFT = 4
SCAN_SIDE = SIDE + 2 * MAX_SHIFT
# Largest factor of the contrast's exponent, and one over its smallest.
MAX_GAMMA = 1.5
# Least mean voxel of a training scan, of 1: what is nearly empty has no contrast.
MIN_MEAN = 0.2
# Bounds of normalised pixels, as officially.
CLIP = 6.0
# In voxels of 2 mm from the left, the back and below: where coronal and axial scans begin on the
# left, so that the plane of symmetry is not in their middle; that plane; the coronal planes of the
# splits; where coronal and sagittal scans begin below; and the other planes that train.
LEFT = 14
MIDLINE = 49
TRAIN_SLAB = (13, 13 + SCAN_SIDE)
VALIDATION_SLABS = ((63, 69), (79, 85))
TEST_SLABS = ((71, 77), (87, 93))
HEIGHTS = (10, 26)
AXIAL = range(4, 76)
SAGITTAL = range(15, MIDLINE)
# Masks that each evaluation scan is seen through.
EVAL_MASKS = 2

Volume = NDArray[np.float32]


def halved(volume: Volume) -> Volume:
    """Means over cubes of two voxels; the last voxel of an odd axis is lost."""
    x, y, z = (size // 2 for size in volume.shape)
    cubes = volume[: 2 * x, : 2 * y, : 2 * z].reshape(x, 2, y, 2, z, 2)
    return cubes.mean((1, 3, 5), dtype=np.float32)


def coronal_scans(volume: Volume, slab: tuple[int, int]) -> Iterator[Volume]:
    """Scans [48, 48] across a slab of the brain, a low and a high one in each plane."""
    for y in range(*slab):
        for z in HEIGHTS:
            yield volume[LEFT : LEFT + SCAN_SIDE, y, z : z + SCAN_SIDE]


def training_scans(volume: Volume) -> Iterator[Volume]:
    """Scans [48, 48] in three orientations of the block of the brain that trains."""
    yield from coronal_scans(volume, TRAIN_SLAB)
    block = volume[:, slice(*TRAIN_SLAB)]
    for z in AXIAL:
        yield block[LEFT : LEFT + SCAN_SIDE, :, z]
    for x in SAGITTAL:
        for z in HEIGHTS:
            yield block[x, :, z : z + SCAN_SIDE]


def scans(volume: Volume) -> dict[str, Volume]:
    """Scans [rows, 48, 48] of `train`, `validation` and `test` from a volume [98, 116, 94]."""
    train = [scan for scan in training_scans(volume) if scan.mean() >= MIN_MEAN]
    return {
        "train": np.stack(train),
        **{
            split: np.stack([scan for slab in slabs for scan in coronal_scans(volume, slab)])
            for split, slabs in (("validation", VALIDATION_SLABS), ("test", TEST_SLABS))
        },
    }


def example(images: torch.Tensor, masks: torch.Tensor) -> Batch:
    """What the model reads and learns from images [rows, 40, 40] and masks of columns [rows, 40].

    `inputs` and `targets` [rows, 40, 40] are normalised by the `mean` and `std` [rows] of the
    reconstruction, which take the targets back to the images.
    """
    zero_filled = reconstruct(images, masks)
    mean = zero_filled.mean((1, 2))
    std = zero_filled.std((1, 2), correction=0)

    def normalised(x: torch.Tensor) -> torch.Tensor:
        return ((x - mean[:, None, None]) / std[:, None, None]).clamp(-CLIP, CLIP)

    return {
        "inputs": normalised(zero_filled),
        "targets": normalised(images),
        "mean": mean,
        "std": std,
    }


def augment(batch: Batch, generator: np.random.Generator) -> Batch:
    """Draws a shift, flips, a contrast and a mask for each scan, and makes examples of them."""
    whole = batch["scan"]
    device, rows = whole.device, torch.arange(len(whole), device=whole.device)
    shifts = generator.integers(0, 2 * MAX_SHIFT + 1, size=(2, len(whole)))
    flips = generator.integers(0, 2, size=(2, len(whole), 1, 1)).astype(bool)
    gammas = MAX_GAMMA ** generator.uniform(-1, 1, size=(len(whole), 1, 1))
    masks = draw_masks(len(whole), SIDE, generator)
    down, right = torch.from_numpy(shifts).to(device)
    images = whole.unfold(1, SIDE, 1).unfold(2, SIDE, 1)[rows, down, right]
    for axis, flip in zip((1, 2), torch.from_numpy(flips).to(device), strict=True):
        images = torch.where(flip, images.flip(axis), images)
    images = images ** torch.from_numpy(gammas).to(images)
    return batch | example(images, masks.to(device))


class BrainUnetWorkload(StandinWorkload):
    """Reconstruction of brain slices; metrics ssim and loss."""

    name: ClassVar[str] = "brain_unet"
    output_layer: ClassVar[str] = "conv_head"
    loss_type = spec.LossType.MEAN_ABSOLUTE_ERROR
    eval_batch_size = 16

    def load_tables(self) -> dict[str, Table]:
        path = locate("nilearn", "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
        file: Any = nibabel.load(path)
        volume = halved(np.asarray(file.dataobj).astype(np.float32))
        generator = np.random.default_rng(SPLIT_SEED)
        tables = {}
        for split, rows in scans(volume / volume.max()).items():
            repeats = 1 if split == "train" else EVAL_MASKS
            whole = torch.from_numpy(generator.permutation(np.repeat(rows, repeats, axis=0)))
            masks = draw_masks(len(whole), SIDE, generator)
            frame = slice(MAX_SHIFT, MAX_SHIFT + SIDE)
            tables[split] = {"scan": whole, **example(whole[:, frame, frame], masks)}
        return tables

    def augmentation(self) -> Augmentation:
        return augment

    def build_model(self) -> UNet:
        return UNet()

    def losses(
        self, label_batch: torch.Tensor, logits_batch: torch.Tensor, label_smoothing: float
    ) -> torch.Tensor:
        """Mean absolute differences [rows] of images [rows, 40, 40], which are not smoothed."""
        del label_smoothing
        return (logits_batch - label_batch).abs().mean((1, 2))

    def summed_metrics(self, logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        mean, std = batch["mean"][:, None, None], batch["std"][:, None, None]
        images, targets = (x * std + mean for x in (logits, batch["targets"]))
        # The volume's largest voxel is 1.
        similarity = ssim.similarity(images, targets, data_range=1.0)
        return {
            "ssim": (similarity * batch["weights"]).sum(),
            "loss": self.loss_fn(batch["targets"], logits, batch["weights"])["summed"],
        }
