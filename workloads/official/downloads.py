"""What the benchmark's own set-up downloads for each official data set, and on whose terms.

Sources, at 2c90454f of mlcommons/algorithmic-efficiency unless said otherwise: sizes of downloads,
programs, prompts and where files go from `datasets/dataset_setup.py`; final sizes from
`datasets/README.md`; MNIST, CIFAR-10 and ImageNet-v2 from the checksums of TensorFlow Datasets
4.9.9. Space needed on the way is no source's figure: it follows from what the script keeps at the
same time, with the extracted LibriSpeech as large as its archives, since FLAC hardly compresses.
Where a source says GB without saying which, 2**30 bytes are meant, the larger.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType


@dataclasses.dataclass(frozen=True)
class Url:
    """An address that a person is given by the data's owner.

    Attributes:
      flag: of the set-up script, without dashes.
      file: what the address must lead to; the script derives names from it.
    """

    flag: str
    file: str


@dataclasses.dataclass(frozen=True)
class SetUp:
    """One run of the benchmark's set-up script.

    Attributes:
      flag: the script's flag for this data set, without dashes.
      owner: from whom the data come.
      download_gib: what is downloaded.
      data_gib: the most that the data directory holds on the way, leftovers included.
      temp_gib: the most that the directory for temporary files holds; 0 if it is not used.
      licence: the data's terms.
      accept: what a person must have done before, and where; empty if nothing.
      urls: addresses that a person must bring.
      tools: programs that the script calls.
      prompts: what the script asks on the way.
      leftovers: what remains that no workload reads, and a person may delete.
      takes_framework: whether the script must be told the framework.
    """

    flag: str
    owner: str
    download_gib: float
    data_gib: float
    licence: str
    temp_gib: float = 0
    accept: str = ""
    urls: tuple[Url, ...] = ()
    tools: tuple[str, ...] = ()
    prompts: str = ""
    leftovers: str = ""
    takes_framework: bool = False


_OVERWRITE = "whether to overwrite an archive that is already there"
_IMAGENET = SetUp(
    flag="imagenet",
    owner="image-net.org; ImageNet-v2 by TensorFlow Datasets",
    download_gib=137 + 6.3 + 1.2,
    # The archive, its 1,000 archives of classes, and the images; ImageNet-v2 three times, too.
    data_gib=3 * 137 + 2 * 6.3 + 3 * 1.2,
    licence="ImageNet's terms of access: research and education, not commercial",
    accept="register at image-net.org, accept its terms of access there, and copy the addresses of "
    "the ILSVRC2012 training and validation images",
    urls=(
        Url("imagenet_train_url", "ILSVRC2012_img_train.tar"),
        Url("imagenet_val_url", "ILSVRC2012_img_val.tar"),
    ),
    tools=("wget", "bash"),
    prompts=_OVERWRITE,
    leftovers="*.tar in imagenet/pytorch and in imagenet/pytorch/train, imagenet/downloads",
    takes_framework=True,
)
_LIBRISPEECH = SetUp(
    flag="librispeech",
    owner="openslr.org, SLR12",
    download_gib=60,
    data_gib=387,
    temp_gib=2 * 60,
    licence="CC BY 4.0",
    tools=("wget", "tar", "ffmpeg"),
    leftovers="librispeech in the temporary directory",
)
_COMMON: Mapping[str, SetUp] = {
    "criteo1tb": SetUp(
        flag="criteo1tb",
        owner="Criteo AI Lab",
        download_gib=342,
        # Days as they are unpacked, and again in pieces.
        data_gib=2 * 1.1 * 1_024,
        # One archive, and the archives of days in it.
        temp_gib=2 * 342,
        licence="CC BY-NC-SA 4.0: not commercial",
        accept="read the terms that the pages of the data set at ailab.criteo.com lead to; the "
        "script downloads without asking",
        tools=("unzip", "pigz", "split"),
        prompts=f"{_OVERWRITE}; three times, whether to delete what is no longer needed",
        leftovers="criteo1tb in the temporary directory, criteo1tb/day_*.csv",
    ),
    "fastmri": SetUp(
        flag="fastmri",
        owner="NYU Langone Health",
        download_gib=90,
        data_gib=90 + 113,
        licence="NYU's fastMRI data sharing agreement",
        accept="fill out the form at fastmri.med.nyu.edu and accept the agreement; the addresses "
        "come by e-mail",
        urls=tuple(
            Url(f"fastmri_knee_singlecoil_{split}_url", f"knee_singlecoil_{split}.tar.xz")
            for split in ("train", "val", "test")
        ),
        prompts=_OVERWRITE,
        leftovers="fastmri/*.tar.xz, fastmri/knee_singlecoil_test",
    ),
    "librispeech_conformer": _LIBRISPEECH,
    "librispeech_deepspeech": _LIBRISPEECH,
    "ogbg": SetUp(
        flag="ogbg",
        owner="Open Graph Benchmark, by TensorFlow Datasets",
        download_gib=0.037,
        data_gib=0.037 + 0.83,
        licence="MIT",
        leftovers="ogbg/downloads",
    ),
    "wmt": SetUp(
        flag="wmt",
        owner="statmt.org, by TensorFlow Datasets",
        download_gib=3,
        data_gib=3 + 3.3,
        licence="free for research; single corpora have terms of their own",
        leftovers="wmt/downloads",
    ),
    "mnist": SetUp(
        flag="mnist",
        owner="TensorFlow Datasets",
        download_gib=0.011,
        data_gib=0.011 + 0.0205,
        licence="none stated",
        leftovers="MNIST/downloads",
    ),
}
_CIFAR = SetUp(
    flag="cifar",
    owner="University of Toronto",
    download_gib=0.159,
    data_gib=0.335,
    licence="none stated",
    leftovers="cifar10/cifar-10-python.tar.gz",
    takes_framework=True,
)

# By framework, then by base workload.
SETUPS: Mapping[str, Mapping[str, SetUp]] = MappingProxyType(
    {
        "pytorch": MappingProxyType(
            {**_COMMON, "imagenet_resnet": _IMAGENET, "imagenet_vit": _IMAGENET, "cifar": _CIFAR}
        ),
        "jax": MappingProxyType(
            {
                **_COMMON,
                **dict.fromkeys(
                    ("imagenet_resnet", "imagenet_vit"),
                    dataclasses.replace(
                        _IMAGENET,
                        # The archives, and the records of both versions; ImageNet-v2's archive.
                        data_gib=137 + 6.3 + 145 + 2 * 1.2,
                        tools=(),
                        leftovers="*.tar in imagenet/jax/downloads/manual, imagenet/downloads",
                    ),
                ),
                "cifar": dataclasses.replace(_CIFAR, leftovers="cifar10/downloads"),
            }
        ),
    }
)
