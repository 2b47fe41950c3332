"""Made-up trees of official data: the names and lengths of a complete set-up, and no content."""

import json
import struct
from pathlib import Path
from typing import Any

from workloads.official.layouts import (
    DayFiles,
    Images,
    Layout,
    OneFile,
    Part,
    Records,
    Utterances,
    Volumes,
)

FRAME = 16


def grow(root: Path, layout: Layout) -> Path:
    """Writes all parts of a layout, in as little space as possible; its data directory."""
    directory = root / layout.folder
    directory.mkdir(parents=True)
    for part in layout.parts:
        _PLANTERS[type(part)](directory, part)
    return directory


def sparse(path: Path, size: int, end: bytes = b"\0") -> None:
    """A file of `size` bytes that ends in `end` and takes almost no space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.seek(size - len(end))
        stream.write(end)


def volume(path: Path, length: int, version: int = 0) -> None:
    """A file with the head of an HDF5 file of `length` bytes, and of that length."""
    at = {0: 40, 1: 44, 2: 28, 3: 28}[version]
    sparse(path, length)
    with path.open("r+b") as stream:
        stream.write(b"\x89HDF\r\n\x1a\n" + bytes([version]))
        stream.seek(at)
        stream.write(struct.pack("<Q", length))


def _records(directory: Path, part: Records) -> None:
    folder = directory / part.folder
    folder.mkdir(parents=True)
    stem, splits = part.folder.split("/")[0], []
    for name, examples in part.examples.items():
        lengths = [examples - examples // 2, examples // 2]
        splits.append(
            {
                "name": name,
                "numBytes": str(10 * examples),
                "shardLengths": [str(length) for length in lengths],
            }
        )
        for at, length in enumerate(lengths):
            sparse(folder / f"{stem}-{name}.tfrecord-{at:05d}-of-00002", (10 + FRAME) * length)
    info = {"name": stem, "fileFormat": "tfrecord", "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))


def _images(directory: Path, part: Images) -> None:
    size = int(part.least_gib * 2**30 / part.files) + 1
    for at in range(part.files):
        name = f"n{at % part.classes:08d}"
        sparse(directory / part.folder / name / f"{name}_{at}.JPEG", size)


def _volumes(directory: Path, part: Volumes) -> None:
    for at in range(part.files):
        volume(directory / part.folder / f"file{at:07d}.h5", 1_000 + at, version=at % 4)


def _utterances(directory: Path, part: Utterances) -> None:
    size = int(part.least_gib * 2**30 / sum(part.utterances.values())) + 1
    for split, subsets in part.subsets.items():
        for order, subset in enumerate(subsets):
            names = [f"{order}-{at:04d}" for at in range(part.utterances[split])][
                order :: len(subsets)
            ]
            (directory / subset).mkdir()
            rows = "".join(f"{at},{name}\n" for at, name in enumerate(names))
            (directory / f"{subset}.csv").write_text(",id\n" + rows)
            for name in names:
                sparse(directory / subset / f"{name}_audio.npy", size)
                sparse(directory / subset / f"{name}_targets.npy", 1)


def _day_files(directory: Path, part: DayFiles) -> None:
    days = [part.names(day) for day in range(len(part.rows_per_day))]
    size = int(part.least_gib * 2**30 / sum(map(len, days))) + 1
    for names in days:
        for name in names:
            sparse(directory / name, size, b"\n")


def _one_file(directory: Path, part: OneFile) -> None:
    sparse(directory / part.path, part.least_bytes)


_PLANTERS: dict[type[Part], Any] = {
    Records: _records,
    Images: _images,
    Volumes: _volumes,
    Utterances: _utterances,
    DayFiles: _day_files,
    OneFile: _one_file,
}
