"""Names and sizes of files, and how a sentence speaks of those that are amiss."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

# du counts folders, too; they are well below this share of a data set.
_FOLDERS_SHARE = 0.01


@dataclasses.dataclass
class Tally:
    """Sizes of files, summed up, and the paths of those that are empty."""

    total: int = 0
    empty: list[str] = dataclasses.field(default_factory=list)

    def add(self, entries: list[os.DirEntry[str]]) -> None:
        """Counts these files in, too."""
        for entry in entries:
            size = entry.stat().st_size
            self.total += size
            if size == 0:
                self.empty.append(entry.path)

    def sentences(self, folder: Path, least_gib: float) -> Iterator[str]:
        """One if files of `folder` are empty or hold too little together, else none."""
        if self.empty:
            yield f"{folder} has {len(self.empty):,} empty files: {some(sorted(self.empty))}"
        elif self.total < least_gib * 2**30 * (1 - _FOLDERS_SHARE):
            yield (
                f"{folder}: the files hold {self.total / 2**30:,.1f} GiB and should hold more than "
                f"{least_gib:,g} GiB"
            )


def sizes_of(folder: Path) -> Mapping[str, int]:
    """Bytes of each file in a folder, by name."""
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def some(names: list[str]) -> str:
    """The first of them, and how many more there are."""
    return names[0] + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")


def too_short(path: Path, size: int, least: int) -> str:
    """The sentence on a file with fewer bytes than it should have at least."""
    if size == 0:
        return f"{path} is empty"
    return f"{path} has {size:,} bytes and should have {least:,}: it is truncated"
