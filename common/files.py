"""Files that are whole or absent: written beside their place, synced, then moved there."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from common.cli import UserError


@contextmanager
def atomic_open(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary file that takes `path`'s place only if the block ends well.

    Bytes of file names that are no UTF-8 are written as text, such as `\\udcff`. UserError with the
    path if the file cannot be written, such as on a full disk.
    """
    encoding, errors = (None, None) if "b" in mode else ("utf-8", "backslashreplace")
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, mode, encoding=encoding, errors=errors) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException as error:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def write_text(path: Path, text: str) -> None:
    """Writes `text` atomically."""
    with atomic_open(path) as stream:
        stream.write(text)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_bytes(path: Path) -> bytes:
    """The content of a file; UserError with the path if it cannot be read.

    A pipe is refused, since it may wait for a writer for ever; unless it is a device that somebody
    has named, as a shell does for `<(command)`.
    """
    try:
        is_stream = path.exists() and not (path.is_file() or path.is_dir())
        if is_stream and path.parts[1:2] not in (("dev",), ("proc",)):
            raise UserError(f"{path} cannot be read: it is a pipe or a device, not a file")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def read_json(path: Path) -> Any:
    """The JSON value in `path`; UserError with the path if it is missing or malformed."""
    return parse_json(read_bytes(path), path)


def newest(directory: Path, stem: str) -> Path | None:
    """The `STEM_N.json` with the highest N in a directory, as trials write one per start."""
    numbered = {
        int(number): path
        for path in directory.glob(f"{stem}_*.json")
        if (number := path.stem.rpartition("_")[2]).isdecimal()
    }
    return numbered[max(numbered)] if numbered else None


def parse_json(content: str | bytes, where: Path | str) -> Any:
    """The JSON value of `content`, UTF-8 if bytes; UserError naming `where` if it is malformed."""
    try:
        return json.loads(content if isinstance(content, str) else content.decode("utf-8"))
    except ValueError as error:
        raise UserError(f"{where} is not valid JSON: {error}") from error
    except RecursionError as error:
        raise UserError(f"{where} is nested too deeply to be read") from error


def make_directory(path: Path) -> Path:
    """Creates `path`; UserError if it cannot be created or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror}") from error
    return path
