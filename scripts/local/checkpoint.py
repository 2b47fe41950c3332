"""A trial's checkpoint file: whole or absent, and loaded without running code."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from common import files
from common.cli import UserError


def save(path: Path, snapshot: dict[str, Any]) -> None:
    """Writes tensors, numbers, strings and containers of them, atomically.

    UserError with the path if it cannot be written, such as on a full disk.
    """
    with files.atomic_open(path, "wb") as stream:
        try:
            torch.save(snapshot, stream)
        except RuntimeError as error:
            cause = error.__context__  # torch's writer has its own error for a stream that failed
            if isinstance(cause, OSError):
                raise OSError(cause.errno, cause.strerror) from error
            raise


def load(path: Path) -> dict[str, Any]:
    """The saved dict with tensors on the CPU; UserError naming the path if it is damaged."""
    try:
        if not path.is_file():
            raise ValueError("it is a pipe or a folder")
        # torch.load does not compare the checksums, and would return altered weights.
        with zipfile.ZipFile(path) as archive:
            if part := archive.testzip():
                raise ValueError(f"checksum of {part} is wrong")
        snapshot = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in any layer below torch.load
        raise unusable(path, error) from error
    if not isinstance(snapshot, dict):
        raise unusable(path, TypeError(f"holds a {type(snapshot).__name__}, not a dict"))
    return snapshot


def unusable(path: Path, error: Exception) -> UserError:
    """The error for a checkpoint that cannot be read or does not fit."""
    first_line = (str(error).splitlines() or [""])[0]
    return UserError(
        f"cannot resume from checkpoint {path} ({type(error).__name__}: {first_line}); "
        "delete it to start the trial over"
    )
