"""Whether the files of an official data set are all there, one check per kind of layout.

Folders are read with `os.scandir`: names only where there are a million of them. Nothing is
decoded.
"""

import csv
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.official import file_ends, records
from scripts.official.file_sizes import Tally, sizes_of, some, too_short
from workloads.official.layouts import (
    DayFiles,
    Images,
    OneFile,
    Part,
    Records,
    Utterances,
    Volumes,
)


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
        yield too_short(path, size, part.least_bytes)


@_check.register
def _records(part: Records, directory: Path, sizes: bool) -> Iterator[str]:
    del sizes
    yield from records.problems(part, directory)


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
    count, bare, tally = 0, [], Tally()
    for name in sorted(classes):
        with os.scandir(name) as entries:
            images = [entry for entry in entries if _is_image(entry.name)]
        count += len(images)
        if not images:
            bare.append(name)
        if sizes:
            tally.add(images)
    if bare:
        yield f"{folder} has class folders without an image: {some(bare)}"
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
    volumes = {name: size for name, size in sizes_of(folder).items() if name.endswith(".h5")}
    if len(volumes) != part.files:
        yield f"{folder} has {len(volumes):,} files *.h5; should be {part.files:,}"
    for name, size in sorted(volumes.items()):
        length = file_ends.hdf5_length(folder / name) if size else 1
        if length is None:
            yield f"{folder / name} is no HDF5 file"
        elif size < length:
            yield too_short(folder / name, size, length)


@_check.register
def _utterances(part: Utterances, directory: Path, sizes: bool) -> Iterator[str]:
    tally, complete = Tally(), True
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


def _subset(directory: Path, subset: str, tally: Tally | None) -> tuple[int, list[str]]:
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
        f"missing: {some(lost)}"
    )
    return len(names), [sentence]


@_check.register
def _day_files(part: DayFiles, directory: Path, sizes: bool) -> Iterator[str]:
    del sizes
    there = sizes_of(directory)
    expected = [part.names(day) for day in range(len(part.rows_per_day))]
    found = []
    for day, names in enumerate(expected):
        surplus = {name for name in there if name.startswith(f"day_{day}_")} - set(names)
        if surplus:
            found.append(
                f"{directory} has more than the {len(names)} files of day {day}: "
                f"{some(sorted(surplus))}"
            )
        lost = [name for name in names if name not in there]
        if lost:
            found.append(
                f"{directory} has {len(names) - len(lost)} of the {len(names)} files of day {day}; "
                f"missing: {some(lost)}"
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
        tally = Tally(total=sum(there[name] for names in expected for name in names))
        yield from tally.sentences(directory, part.least_gib)


def _is_image(name: str) -> bool:
    return name.lower().endswith((".jpeg", ".jpg"))
