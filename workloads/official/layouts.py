"""What files each official data set consists of, once the benchmark's own set-up is through.

Only what a workload reads is listed: the test volumes of fastMRI and left-over archives are not.

Sources, at 2c90454f of mlcommons/algorithmic-efficiency unless said otherwise: the trees and counts
of `datasets/README.md`; `datasets/dataset_setup.py` and `docker/scripts/startup.sh` for folders;
the workloads' input pipelines for what is read. Examples per split are those of the workload
classes. Volumes of fastMRI per split: the data set's paper (arXiv:1811.08839), whose slices are the
benchmark's examples and whose 973, 199 and 108 volumes are the README's 1,280 files. Rows per day
of Criteo: the script of MLCommons' training reference that converts its click logs; cut into files
of 5,000,000 rows they give the README's 885 files and the class's 4,195,197,692 training examples.

The README counts sizes with `du -h`, which rounds up in powers of 1,024: its "137 GB" are at most
137 GiB and more than 136. A least size here is the next lower figure of that precision.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

FRAMEWORKS = ("pytorch", "jax")


@dataclasses.dataclass(frozen=True)
class Records:
    """A data set as TensorFlow Datasets leaves it: record files and what describes them.

    How many record files there are, and their bytes, is written in its own `dataset_info.json`.

    Attributes:
      folder: of the version, below the data directory.
      examples: of each split that the workload reads.
    """

    folder: str
    examples: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Images:
    """Images in one folder per class, as `torchvision.datasets.ImageFolder` reads them.

    Attributes:
      folder: of the split, below the data directory.
      classes, files: how many.
      least_gib: no complete copy is smaller, in 2**30 bytes.
    """

    folder: str
    classes: int
    files: int
    least_gib: float


@dataclasses.dataclass(frozen=True)
class Volumes:
    """A folder of HDF5 files.

    Attributes:
      folder: of the split, below the data directory.
      files: how many `*.h5` it holds.
    """

    folder: str
    files: int


@dataclasses.dataclass(frozen=True)
class Utterances:
    """Speech: a list `SUBSET.csv`, and two files in `SUBSET/` for each utterance on it.

    Attributes:
      subsets: the subsets of each split.
      utterances: of each split.
      slack: by how much sources differ on the number of utterances. The README's 543,323 files are
        271,658 pairs, six lists and a vocabulary; the classes count 271,660 utterances.
      least_gib: no complete copy is smaller, in 2**30 bytes.
    """

    subsets: Mapping[str, tuple[str, ...]]
    utterances: Mapping[str, int]
    slack: int
    least_gib: float


@dataclasses.dataclass(frozen=True)
class DayFiles:
    """Click logs: files `day_D_NN`, cut by `split` after so many rows.

    Attributes:
      rows_per_day: of each day.
      rows_per_file: of each file but a day's last.
      least_gib: no complete copy is smaller, in 2**30 bytes.
    """

    rows_per_day: tuple[int, ...]
    rows_per_file: int
    least_gib: float

    def names(self, day: int) -> list[str]:
        """The files that a day is cut into."""
        count = -(-self.rows_per_day[day] // self.rows_per_file)
        return [f"day_{day}_{at:02d}" for at in range(count)]


@dataclasses.dataclass(frozen=True)
class OneFile:
    """A single file.

    Attributes:
      path: below the data directory.
      least_bytes: no complete file is smaller.
    """

    path: str
    least_bytes: int = 1


Part = Records | Images | Volumes | Utterances | DayFiles | OneFile


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a data set lies below the common root, and what is there.

    Attributes:
      folder: the runner's `--data_dir`, below the root.
      parts: what a workload reads, with paths below that folder.
      otherwise: a second place for `folder`, taken if the first is not there and its
        records are in the second.
    """

    folder: str
    parts: tuple[Part, ...]
    otherwise: str | None = None


def _frozen(**counts: int) -> Mapping[str, int]:
    return MappingProxyType(counts)


# fmt: off
_CRITEO_ROWS = (
    195_841_983, 199_563_535, 196_792_019, 181_115_208, 152_115_810, 172_548_507,
    204_846_845, 200_801_003, 193_772_492, 198_424_372, 185_778_055, 153_588_700,
    169_003_364, 194_216_520, 194_081_279, 187_154_596, 177_984_934, 163_382_602,
    142_061_091, 156_534_237, 193_627_464, 192_215_183, 189_747_893, 178_274_637,
)
# fmt: on
_IMAGENET_V2 = Records("imagenet_v2/matched-frequency/3.0.0", _frozen(test=10_000))
_SPEECH = Layout(
    "librispeech",
    (
        OneFile("spm_model.vocab"),
        Utterances(
            subsets=MappingProxyType(
                {
                    "train": ("train-clean-100", "train-clean-360", "train-other-500"),
                    "validation": ("dev-clean", "dev-other"),
                    "test": ("test-clean",),
                }
            ),
            utterances=_frozen(train=263_840, validation=5_348, test=2_472),
            slack=2,
            least_gib=386,
        ),
    ),
)
_CIFAR_PYTORCH = Layout(
    "cifar10",
    (
        # As torchvision unpacks it: 10,000 images of 3 x 32 x 32 bytes to a file, pickled.
        *(
            OneFile(f"cifar-10-batches-py/{name}", 10_000 * 3 * 32 * 32)
            for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
        ),
        OneFile("cifar-10-batches-py/batches.meta"),
    ),
)
_COMMON: Mapping[str, Layout] = {
    "criteo1tb": Layout("criteo1tb", (DayFiles(_CRITEO_ROWS, 5_000_000, least_gib=1_024),)),
    # The test split is the second half of the validation volumes.
    "fastmri": Layout(
        "fastmri", (Volumes("knee_singlecoil_train", 973), Volumes("knee_singlecoil_val", 199))
    ),
    "librispeech_conformer": _SPEECH,
    "librispeech_deepspeech": _SPEECH,
    "ogbg": Layout(
        "ogbg",
        (Records("ogbg_molpcba/0.1.3", _frozen(train=350_343, validation=43_793, test=43_793)),),
    ),
    "wmt": Layout(
        "wmt",
        (
            OneFile("wmt_sentencepiece_model"),
            Records("wmt17_translate/de-en/1.0.0", _frozen(train=5_906_184)),
            Records("wmt14_translate/de-en/1.0.0", _frozen(validation=3_000, test=3_003)),
        ),
    ),
    # The set-up writes to MNIST/mnist; a copy that tfds made in the root itself serves as well.
    "mnist": Layout(
        "MNIST", (Records("mnist/3.0.1", _frozen(train=60_000, test=10_000)),), otherwise="."
    ),
}
_IMAGENET_PYTORCH = Layout(
    "imagenet/pytorch",
    (
        Images("train", 1_000, 1_281_167, least_gib=136),
        Images("val", 1_000, 50_000, least_gib=6.2),
        _IMAGENET_V2,
    ),
)
_IMAGENET_JAX = Layout(
    "imagenet/jax",
    (
        Records("imagenet2012/5.1.0", _frozen(train=1_281_167, validation=50_000)),
        _IMAGENET_V2,
    ),
)

# By framework, then by base workload.
LAYOUTS: Mapping[str, Mapping[str, Layout]] = MappingProxyType(
    {
        "pytorch": MappingProxyType(
            {
                **_COMMON,
                "imagenet_resnet": _IMAGENET_PYTORCH,
                "imagenet_vit": _IMAGENET_PYTORCH,
                "cifar": _CIFAR_PYTORCH,
            }
        ),
        "jax": MappingProxyType(
            {
                **_COMMON,
                "imagenet_resnet": _IMAGENET_JAX,
                "imagenet_vit": _IMAGENET_JAX,
                "cifar": Layout(
                    "cifar10", (Records("cifar10/3.0.2", _frozen(train=50_000, test=10_000)),)
                ),
            }
        ),
    }
)
