"""Where the official workloads' data lie below one root, and whether all of it is there.

The root is the `--data_dir` of the benchmark's own `datasets/dataset_setup.py`; folders are those
that it makes and that the benchmark's `docker/scripts/startup.sh` expects.
"""

from pathlib import Path

from common.cli import UserError
from scripts.official.files import problems
from workloads import registry
from workloads.official.layouts import FRAMEWORKS, LAYOUTS, Layout, Records


def runner_flags(workload: str, root: Path, framework: str = "pytorch") -> list[str]:
    """The official runner's flags that say where a workload's data are.

    Args:
      workload: an official workload, base or variant.
      root: where the benchmark's set-up has put everything.
      framework: `pytorch` or `jax`, which read ImageNet and CIFAR-10 in different forms.

    Returns:
      `--data_dir=…`, and for ImageNet `--imagenet_v2_data_dir=…`, for LibriSpeech
      `--librispeech_tokenizer_vocab_path=…`; absolute paths, whether they exist or not.

    Raises:
      UserError: for an unknown workload or framework, or one whose class the benchmark's commit
        lacks.

    >>> runner_flags("imagenet_vit_glu", Path("/data"))
    ['--data_dir=/data/imagenet/pytorch', '--imagenet_v2_data_dir=/data/imagenet/pytorch']
    """
    directory = data_directory(workload, root, framework)
    flags = [f"--data_dir={directory}"]
    if workload.startswith("imagenet_"):
        flags.append(f"--imagenet_v2_data_dir={directory}")
    elif workload.startswith("librispeech_"):
        flags.append(f"--librispeech_tokenizer_vocab_path={directory / 'spm_model.vocab'}")
    return flags


def data_directory(workload: str, root: Path, framework: str = "pytorch") -> Path:
    """What the runner's `--data_dir` must be, absolute; UserError as `runner_flags`."""
    layout = layout_of(workload, framework)
    root = root.expanduser().absolute()
    directory = root / layout.folder
    if layout.otherwise is not None and not directory.is_dir():
        records = [part.folder for part in layout.parts if isinstance(part, Records)]
        if all((root / layout.otherwise / folder).is_dir() for folder in records):
            return root / layout.otherwise
    return directory


def missing(
    workload: str, root: Path, framework: str = "pytorch", sizes: bool = False
) -> list[str]:
    """What of a workload's data is missing or incomplete, one sentence each; [] if nothing is.

    Names are compared with what the workload reads, and sizes wherever a source says what they
    should be. A file that exists and has its length may still be damaged: nothing is decoded.

    Args:
      workload, root, framework: as for `runner_flags`.
      sizes: also ask for the size of each of ImageNet's and LibriSpeech's many files, which tells
        empty files and a total that is too small. Folders with few files are always asked.

    Raises:
      UserError: as `runner_flags`.
    """
    layout = layout_of(workload, framework)
    directory = data_directory(workload, root, framework)
    if not directory.is_dir():
        return [f"{directory} is missing: no data of {workload} have been set up there"]
    return [sentence for part in layout.parts for sentence in problems(part, directory, sizes)]


def layout_of(workload: str, framework: str = "pytorch") -> Layout:
    """The files of a workload's data; UserError as `runner_flags`."""
    if framework not in FRAMEWORKS:
        raise UserError(f"unknown framework {framework!r}; known: {', '.join(FRAMEWORKS)}")
    base = registry.official(workload).base_name
    if base not in LAYOUTS[framework]:
        raise UserError(
            f"{workload} has no data to set up: the benchmark's commit lacks its class; those that "
            f"have are: {', '.join(sorted(LAYOUTS[framework]))}"
        )
    return LAYOUTS[framework][base]
