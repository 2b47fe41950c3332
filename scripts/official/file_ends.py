"""Whether a file ends where it should, told from a few of its bytes."""

import os
import struct
from pathlib import Path

_HDF5 = b"\x89HDF\r\n\x1a\n"
# Where a superblock of each version keeps the address of the file's end, 8 bytes wide (HDF5 file
# format specification, "Disk Format: Level 0A").
_HDF5_END = {0: 40, 1: 44, 2: 28, 3: 28}
_HDF5_HEAD = 52


def hdf5_length(path: Path) -> int | None:
    """The length that an HDF5 file says it has, in bytes; None if it is no HDF5 file."""
    with path.open("rb") as stream:
        head = stream.read(_HDF5_HEAD)
    at = _HDF5_END.get(head[8]) if head.startswith(_HDF5) and len(head) > 8 else None
    if at is None or len(head) < at + 8:
        return None
    return int(struct.unpack_from("<Q", head, at)[0])


def ends_in_line_break(path: Path) -> bool:
    """Whether the last byte of a file that is not empty ends a line."""
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
