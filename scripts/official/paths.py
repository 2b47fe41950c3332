"""Folders of the official workloads' data below one root, and a check of their files.

The root is the `--data_dir` of the benchmark's own `dataset_setup.py`; folders are those
that it makes and that the benchmark's `docker/scripts/startup.sh` expects.
"""

from pathlib import Path

from workloads import registry
from workloads.official.datasets import Tree

# Sizes of so many files are always looked up.
_FEW = 2_000
# du counts folders, too; they are well below this share of a data set.
_FOLDERS_SHARE = 0.01


def runner_flags(workload: str, root: Path, framework: str = "pytorch") -> list[str]:
    """The official runner's flags for the folders of a workload's data.

    Args:
      workload: an official workload, base or variant.
      root: the folder of all data sets, as the benchmark's set-up fills it.
      framework: `pytorch` or `jax`, which read ImageNet and CIFAR-10 in different forms.

    Returns:
      `--data_dir=…`, and for ImageNet `--imagenet_v2_data_dir=…`, for LibriSpeech
      `--librispeech_tokenizer_vocab_path=…`; absolute paths, whether they exist or not.

    Raises:
      UserError: for an unknown workload.

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
    """The folder for the runner's `--data_dir`, absolute; UserError as `runner_flags`."""
    tree = tree_of(workload, framework)
    root = root.expanduser().absolute()
    directory = root / tree.folder
    if tree.otherwise is not None and not directory.is_dir():
        other = root / tree.otherwise
        if all(any(other.glob(pattern)) for pattern in tree.files):
            return other
    return directory


def missing(
    workload: str, root: Path, framework: str = "pytorch", sizes: bool = False
) -> list[str]:
    """A sentence for each part of a workload's data that is missing or incomplete.

    Args:
      workload, root, framework: as for `runner_flags`.
      sizes: as for `problems`.

    Raises:
      UserError: as `runner_flags`.
    """
    directory = data_directory(workload, root, framework)
    if not directory.is_dir():
        return [f"{directory} is missing: no data of {workload} have been set up there"]
    return problems(tree_of(workload, framework), directory, sizes)


def problems(tree: Tree, directory: Path, sizes: bool = False) -> list[str]:
    """A sentence for each pattern of which files are missing, and for files that are too small.

    Files are counted, and their total size is compared with what the benchmark's README says. A
    file that exists may still be damaged: nothing is read.

    Args:
      tree: the expected files.
      directory: the tree's folder.
      sizes: look up the sizes of many files as well, as ImageNet and LibriSpeech have.
    """
    counts = {
        pattern: (count, count) if isinstance(count, int) else count
        for pattern, count in tree.files.items()
    }
    sizes = sizes or sum(most for _, most in counts.values()) <= _FEW
    sentences, empty, total = [], [], 0
    try:
        for pattern, (least, most) in counts.items():
            number = 0
            for path in directory.glob(pattern):
                number += 1
                if sizes and (size := path.stat().st_size):
                    total += size
                elif sizes:
                    empty.append(path)
            if not least <= number <= most:
                allowed = f"{least:,}" + (f" to {most:,}" if most > least else "")
                sentences.append(f"{directory / pattern}: {number:,} files; should be {allowed}")
    except OSError as error:
        return [*sentences, f"{error.filename} cannot be read: {error.strerror}"]
    if empty:
        sentences.append(f"{directory} has {len(empty):,} empty files, such as {min(empty)}")
    elif sizes and not sentences and total < tree.least_gib * 2**30 * (1 - _FOLDERS_SHARE):
        gib = f"{total / 2**30:,.4g} GiB"
        sentences.append(f"{directory}: {gib} in all; should be more than {tree.least_gib:,g} GiB")
    return sentences


def tree_of(workload: str, framework: str = "pytorch") -> Tree:
    """The files of a workload's data; UserError as `runner_flags`."""
    return registry.official(workload).data.trees[framework]
