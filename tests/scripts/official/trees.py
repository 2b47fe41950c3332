"""Made-up trees of official data: as many files of a complete set-up's names, without content."""

import os
from pathlib import Path

from workloads.official.datasets import Tree


def grow(root: Path, tree: Tree) -> Path:
    """Writes sparse files of the least size that is complete; the data directory."""
    directory = root / tree.folder
    counts = {
        pattern: count[0] if isinstance(count, list) else count
        for pattern, count in tree.files.items()
    }
    size = int(tree.least_gib * 2**30 / sum(counts.values())) + 1
    for pattern, count in counts.items():
        for number in range(count):
            resize(directory / name(pattern, number), size)
    return directory


def name(pattern: str, number: int) -> str:
    """A file that matches a pattern; files of a pattern are in three folders."""
    *folders, file = pattern.replace("[1-5]", "*").split("/")
    folders = [folder.replace("*", f"n{number % 3}") for folder in folders]
    return "/".join([*folders, file.replace("*", str(number + 1))])


def resize(path: Path, size: int) -> None:
    """A file of `size` bytes, which takes almost no space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, size)
