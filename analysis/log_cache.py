"""Logs that were read before, kept as Parquet files outside the logs.

A file's name is a digest of everything that the result depends on: path, size, modification and
change time of every file that is read, the benchmark's version, and the reader's own source. So a
result is never stale; what has changed in any of these is read anew.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.problem import Problem
from common import files
from common.cli import UserError

# A file may change twice between two ticks of the file system's clock (1 s on some networks), so
# one as young as this may change once more without a trace.
YOUNG_SECONDS = 2.0

_PROBLEMS = b"problems"


class Fingerprint:
    """A digest of the state of a set of files."""

    def __init__(self, source: Path, readers: Iterable[Path], *settings: object) -> None:
        """Starts with what is read, by which source files, and with which settings."""
        self._source = hashlib.sha256(repr((str(source.resolve()), settings)).encode())
        self._state = hashlib.sha256()
        for reader in readers:
            self._state.update(reader.read_bytes())
        self._start_seconds = time.time()
        self._youngest_seconds = 0.0

    def add(self, path: str, status: os.stat_result) -> None:
        """Adds one file's state."""
        times = status.st_mtime_ns, status.st_ctime_ns
        self._state.update(repr((path, status.st_size, times)).encode())
        # The change time moves with every write, and unlike the other it cannot be set.
        self._youngest_seconds = max(self._youngest_seconds, status.st_ctime_ns / 1e9)

    def add_text(self, text: str) -> None:
        """Adds something else that the result depends on."""
        self._state.update(text.encode("utf-8", "surrogateescape"))

    @property
    def is_young(self) -> bool:
        """Whether a file was so young that it may have changed since without a trace."""
        return self._start_seconds - self._youngest_seconds < YOUNG_SECONDS

    @property
    def stem(self) -> str:
        """The same for every state of the same logs."""
        return f"logs-{self._source.hexdigest()[:16]}-"

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.stem}{self._state.hexdigest()[:32]}.parquet"


def load(cache: Path, fingerprint: Fingerprint) -> tuple[pd.DataFrame, list[Problem]] | None:
    """What was stored for this state of the logs; None if nothing was, or if it is damaged."""
    path = cache / fingerprint.name
    try:
        table = pq.read_table(path, use_threads=False)
        stored = json.loads(table.schema.metadata[_PROBLEMS])
        problems = [Problem(Path(where), reason) for where, reason in stored]
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
    return table.to_pandas(), problems


def store(
    cache: Path, fingerprint: Fingerprint, frame: pd.DataFrame, problems: list[Problem]
) -> Problem | None:
    """Keeps what was read, in place of older states; a problem if `cache` cannot be written to."""
    try:
        files.make_directory(cache)
        table = pa.Table.from_pandas(frame, preserve_index=False, nthreads=1)
        noted = json.dumps([(str(problem.path), problem.reason) for problem in problems])
        table = table.replace_schema_metadata({**table.schema.metadata, _PROBLEMS: noted.encode()})
        with files.atomic_open(cache / fingerprint.name, "wb") as stream:
            pq.write_table(table, stream, compression="zstd")
        for old in cache.glob(f"{fingerprint.stem}*.parquet"):
            if old.name != fingerprint.name:
                old.unlink(missing_ok=True)
    except UserError as error:
        return Problem(cache, f"{error}; logs are read anew each time")
    except OSError as error:
        return Problem(cache, f"cannot be written to: {error.strerror}; logs are read anew")
    return None
