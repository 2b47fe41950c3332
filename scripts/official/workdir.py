"""The working directory of a trial's runner, in the trial's own folder.

AlgoPerf v1.0 writes an index of ImageNet's files into its working directory, in place, and reads
whatever index is there. Trials that shared one, as those of a Slurm array would share the checkout,
could read each other's half-written index.
"""

import os
import shutil
from pathlib import Path

from common import files

_NAME = ".work"
_INDICES = ".*_cache_index.json"


def directory(trial_folder: Path) -> Path:
    """The runner's working directory, which may be missing."""
    return trial_folder / _NAME


def prepare(trial_folder: Path) -> None:
    """Creates the directory, and removes indices that a runner was killed amid."""
    work = files.make_directory(directory(trial_folder))
    for index in work.glob(_INDICES):
        if not _is_whole(index):
            index.unlink()


def remove(trial_folder: Path) -> None:
    """Removes the directory of a trial that has ended: an index names over a million files."""
    shutil.rmtree(directory(trial_folder), ignore_errors=True)


def _is_whole(index: Path) -> bool:
    """Whether an index, whose last part is its list of files, was written to its end."""
    end = b"]}"
    with index.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - len(end)))
        return stream.read() == end
