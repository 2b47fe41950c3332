"""Whether the files of an official data set are all there, one check per kind of layout.

Folders are read with `os.scandir`: names only where there are a million of them. Nothing is
decoded.
"""

import csv
import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common import files
from common.cli import UserError
from scripts.official import file_ends
from workloads.official.layouts import (
    DayFiles,
    Images,
    OneFile,
    Part,
    Records,
    Utterances,
    Volumes,
)

# Around the bytes of each record of a TFRecord file: its length (8), and two checksums (4 each).
_FRAME = 16
# du counts folders, too; they are well below this share of a data set.
_FOLDERS_SHARE = 0.01


def problems(part: Part, directory: Path, sizes: bool = False) -> list[str]:
    """One sentence for each thing that is missing or incomplete.

    Args:
      part: what should be there.
      directory: that its paths are relative to.
      sizes: ask for the size of each of a hundred thousand files and more, too.
    """
    try:
        return list(_check(part, directory, sizes))
    except OSError as error:
        return [f"{error.filename or directory} cannot be read: {error.strerror}"]


@functools.singledispatch
def _check(part: Any, directory: Path, sizes: bool) -> Iterator[str]:
    raise TypeError(f"no check for {type(part).__name__}")


@_check.register
def _one_file(part: OneFile, directory: Path, sizes: bool) -> Iterator[str]:
    del sizes
    path = directory / part.path
    if not path.is_file():
        yield f"{path} is missing"
    elif (size := path.stat().st_size) < part.least_bytes:
        yield _too_short(path, size, part.least_bytes)


@_check.register
def _records(part: Records, directory: Path, sizes: bool) -> Iterator[str]:
    del sizes
    folder = directory / part.folder
    if not folder.is_dir():
        yield f"{folder} is missing{_unfinished(folder)}"
        return
    described = folder / "dataset_info.json"
    try:
        info = files.read_json(described)
        splits = {split["name"]: _Split(info, split) for split in info["splits"]}
    except UserError as error:
        yield str(error)
        return
    except (KeyError, TypeError, ValueError, AttributeError):
        yield f"{described} is not as TensorFlow Datasets writes it"
        return
    there = _sizes(folder)
    for name, examples in part.examples.items():
        if name not in splits:
            yield f"{described} knows no split {name}, which should have {examples:,} examples"
            continue
        split = splits[name]
        if split.examples != examples:
            yield (
                f"{described} counts {split.examples:,} examples in {name}; should be {examples:,}"
            )
        lost = [file for file in split.files if file not in there]
        if lost:
            yield (
                f"{folder} has {len(split.files) - len(lost)} of the {len(split.files)} record "
                f"files of {name}; missing: {_some(lost)}"
            )
        empty = [file for file in split.files if there.get(file) == 0]
        if empty:
            yield f"{folder} has empty record files: {_some(empty)}"
        total = sum(there.get(file, 0) for file in split.files)
        if not lost and not empty and total < split.least_bytes:
            yield (
                f"{folder}: the record files of {name} hold {total:,} bytes and should hold "
                f"{split.least_bytes:,}: at least one is truncated"
            )


class _Split:
    """What `dataset_info.json` says of one split.

    Attributes:
      examples: how many.
      files: names of its record files.
      least_bytes: what they hold together, where the format is known.
    """

    def __init__(self, info: Mapping[str, Any], split: Mapping[str, Any]) -> None:
        lengths = [int(length) for length in split["shardLengths"]]
        ending = info.get("fileFormat", "tfrecord")
        self.examples = sum(lengths)
        self.files = [
            f"{info['name']}-{split['name']}.{ending}-{at:05d}-of-{len(lengths):05d}"
            for at in range(len(lengths))
        ]
        frames = _FRAME * self.examples if ending == "tfrecord" else 0
        self.least_bytes = int(split["numBytes"]) + frames


@_check.register
def _images(part: Images, directory: Path, sizes: bool) -> Iterator[str]:
    folder = directory / part.folder
    if not folder.is_dir():
        yield f"{folder} is missing"
        return
    with os.scandir(folder) as entries:
        classes, loose = [], 0
        for entry in entries:
            if entry.is_dir():
                classes.append(entry.path)
            elif _is_image(entry.name):
                loose += 1
    if loose:
        yield (
            f"{folder} has {loose:,} images outside class folders: the set-up did not get as far "
            f"as sorting them"
        )
    if len(classes) != part.classes:
        yield f"{folder} has {len(classes):,} class folders; should be {part.classes:,}"
    count, bare, tally = 0, [], _Tally()
    for name in sorted(classes):
        with os.scandir(name) as entries:
            images = [entry for entry in entries if _is_image(entry.name)]
        count += len(images)
        if not images:
            bare.append(name)
        if sizes:
            tally.add(images)
    if bare:
        yield f"{folder} has class folders without an image: {_some(bare)}"
    if count != part.files:
        yield f"{folder} has {count:,} images in class folders; should be {part.files:,}"
    if sizes:
        yield from tally.sentences(folder, part.least_gib if count == part.files else 0)


@_check.register
def _volumes(part: Volumes, directory: Path, sizes: bool) -> Iterator[str]:
    del sizes
    folder = directory / part.folder
    if not folder.is_dir():
        yield f"{folder} is missing"
        return
    volumes = {name: size for name, size in _sizes(folder).items() if name.endswith(".h5")}
    if len(volumes) != part.files:
        yield f"{folder} has {len(volumes):,} files *.h5; should be {part.files:,}"
    for name, size in sorted(volumes.items()):
        length = file_ends.hdf5_length(folder / name) if size else 1
        if length is None:
            yield f"{folder / name} is no HDF5 file"
        elif size < length:
            yield _too_short(folder / name, size, length)


@_check.register
def _utterances(part: Utterances, directory: Path, sizes: bool) -> Iterator[str]:
    tally, complete = _Tally(), True
    for split, subsets in part.subsets.items():
        listed, found = 0, []
        for subset in subsets:
            count, sentences = _subset(directory, subset, tally if sizes else None)
            listed += count
            found += sentences
        expected = part.utterances[split]
        if not found and abs(listed - expected) > part.slack:
            lists = " and ".join(f"{subset}.csv" for subset in subsets)
            found.append(
                f"{directory}: {lists} list {listed:,} utterances; should be {expected:,}, give or "
                f"take {part.slack}"
            )
        complete = complete and not found
        yield from found
    if sizes:
        yield from tally.sentences(directory, part.least_gib if complete else 0)


def _subset(directory: Path, subset: str, tally: "_Tally | None") -> tuple[int, list[str]]:
    """How many utterances a subset lists, and what is wrong with it."""
    table, folder = directory / f"{subset}.csv", directory / subset
    absent = [f"{path} is missing" for path in (table, folder) if not path.exists()]
    if absent:
        return 0, absent
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            names = [row[1] for row in csv.reader(stream)][1:]
    except (IndexError, UnicodeDecodeError, csv.Error):
        return 0, [f"{table} is no list of utterances"]
    needed = {f"{name}_{kind}.npy" for name in names for kind in ("audio", "targets")}
    with os.scandir(folder) as entries:
        found = {entry.name: entry for entry in entries if entry.name in needed}
    if tally is not None:
        tally.add(list(found.values()))
    lost = sorted(needed - found.keys())
    if not lost:
        return len(names), []
    sentence = (
        f"{folder} has {len(found):,} of the {len(needed):,} files that {table.name} needs; "
        f"missing: {_some(lost)}"
    )
    return len(names), [sentence]


@_check.register
def _day_files(part: DayFiles, directory: Path, sizes: bool) -> Iterator[str]:
    del sizes
    there = _sizes(directory)
    expected = [part.names(day) for day in range(len(part.rows_per_day))]
    found = []
    for day, names in enumerate(expected):
        surplus = {name for name in there if name.startswith(f"day_{day}_")} - set(names)
        if surplus:
            found.append(
                f"{directory} has more than the {len(names)} files of day {day}: "
                f"{_some(sorted(surplus))}"
            )
        lost = [name for name in names if name not in there]
        if lost:
            found.append(
                f"{directory} has {len(names) - len(lost)} of the {len(names)} files of day {day}; "
                f"missing: {_some(lost)}"
            )
        found += [f"{directory / name} is empty" for name in names if there.get(name) == 0]
        # `split` cuts at line breaks; a day's last file ends as the day does.
        found += [
            f"{directory / name} ends in the middle of a row: it is truncated"
            for name in names[:-1]
            if there.get(name) and not file_ends.ends_in_line_break(directory / name)
        ]
    yield from found
    if not found:
        tally = _Tally(total=sum(there[name] for names in expected for name in names))
        yield from tally.sentences(directory, part.least_gib)


@dataclasses.dataclass
class _Tally:
    """Sizes of files, summed up, and the paths of those that are empty."""

    total: int = 0
    empty: list[str] = dataclasses.field(default_factory=list)

    def add(self, entries: list[os.DirEntry[str]]) -> None:
        for entry in entries:
            size = entry.stat().st_size
            self.total += size
            if size == 0:
                self.empty.append(entry.path)

    def sentences(self, folder: Path, least_gib: float) -> Iterator[str]:
        if self.empty:
            yield f"{folder} has {len(self.empty):,} empty files: {_some(sorted(self.empty))}"
        elif self.total < least_gib * 2**30 * (1 - _FOLDERS_SHARE):
            yield (
                f"{folder}: the files hold {self.total / 2**30:,.1f} GiB and should hold more than "
                f"{least_gib:,g} GiB"
            )


def _sizes(folder: Path) -> Mapping[str, int]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def _is_image(name: str) -> bool:
    return name.lower().endswith((".jpeg", ".jpg"))


def _unfinished(folder: Path) -> str:
    """What a set-up by TensorFlow Datasets that did not finish has left beside `folder`."""
    if not folder.parent.is_dir():
        return ""
    left = sorted(
        path.name
        for path in folder.parent.iterdir()
        if "incomplete" in path.name and folder.name in path.name
    )
    return f"; {left[0]} beside it is of a set-up that did not finish" if left else ""


def _some(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")


def _too_short(path: Path, size: int, least: int) -> str:
    if size == 0:
        return f"{path} is empty"
    return f"{path} has {size:,} bytes and should have {least:,}: it is truncated"
