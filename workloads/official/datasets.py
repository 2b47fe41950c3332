"""Data sets of the official workloads, and what they take on disk once set up.

Sources: `datasets/README.md` of mlcommons/algorithmic-efficiency at 2c90454f, and the workload
classes for the numbers of examples; for MNIST the catalogue of TensorFlow Datasets (21.0 MiB), for
CIFAR-10 torchvision's archive of 170 MB beside its 186 MB of unpacked files. No source gives the
size of FineWeb-Edu once it is split into tokens. The README's MB, GB and TB are those of `du -h`,
powers of 1,024, rounded up. What files there are is in `layouts.py`, what is downloaded in
`downloads.py`.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

SOURCE = "data: datasets/README.md and workload classes at 2c90454f"
NOTES: Mapping[str, str] = MappingProxyType(
    {
        "finewebedu_lm": "examples: the class at 4c37f2aa; sequences of 1,024 tokens",
        "mnist": "size of data: catalogue of TensorFlow Datasets",
        "cifar": "size of data: torchvision's archive and its unpacked files",
    }
)


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
      title: its name in prose.
      size_gib: what it takes on disk after set-up, in units of 2**30 bytes to the precision that
        the source gives; None where no source gives it.
      files: how many files that is; None likewise.
      train_examples, validation_examples, test_examples: sizes of the splits.
    """

    title: str
    size_gib: float | None
    files: int | None
    train_examples: int
    validation_examples: int
    test_examples: int


_LIBRISPEECH = DataSet("LibriSpeech", 387, 543_323, 263_840, 5_348, 2_472)
# As PyTorch reads it: 137 GB for training, 6.3 GB for validation, and ImageNet-v2 for the test.
_IMAGENET = DataSet("ImageNet", 137 + 6.3 + 1.2, 1_281_167 + 50_000 + 20, 1_281_167, 50_000, 10_000)

# By base workload.
DATASETS: Mapping[str, DataSet] = MappingProxyType(
    {
        "criteo1tb": DataSet("Criteo 1TB", 1.1 * 1_024, 885, 4_195_197_692, 83_274_637, 95_000_000),
        "fastmri": DataSet("fastMRI knee", 113, 1_280, 34_742, 3_554, 3_581),
        "imagenet_resnet": _IMAGENET,
        "imagenet_vit": _IMAGENET,
        "librispeech_conformer": _LIBRISPEECH,
        "librispeech_deepspeech": _LIBRISPEECH,
        "ogbg": DataSet("OGB molpcba", 830 / 1_024, 13, 350_343, 43_793, 43_793),
        "wmt": DataSet("WMT17 de-en, WMT14 to evaluate", 3.3, 43, 5_906_184, 3_000, 3_003),
        "finewebedu_lm": DataSet("FineWeb-Edu, 10B tokens", None, None, 8_749_870, 100_000, 0),
        "mnist": DataSet("MNIST", 21.0 / 1_024, None, 50_000, 10_000, 10_000),
        "cifar": DataSet("CIFAR-10", 0.33, None, 45_000, 5_000, 10_000),
    }
)
