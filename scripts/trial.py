"""What one trial is, and where its files lie: AlgoPerf's log layout plus our status.json.

>>> trial = Trial("mnist_vit", "adamw", study=0, trial=1, hyperparameters={"learning_rate": 0.1})
>>> trial.directory(Path("runs")).as_posix()
'runs/adamw/study_0/mnist_vit_pytorch/trial_1'

The seed does not know the entry, so entries are compared on the same initial weights and data.

>>> import dataclasses
>>> trial.rng_seed == dataclasses.replace(trial, entry="shampoo").rng_seed
True
>>> trial.rng_seed == dataclasses.replace(trial, study=1).rng_seed
False
"""

import dataclasses
import fcntl
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import files
from common.cli import UserError
from workloads import prng

FRAMEWORK = "pytorch"
HPARAMS = "hparams.json"
STATUS = "status.json"
CHECKPOINT = "checkpoint.pt"
LOG = "log.txt"


@dataclasses.dataclass(frozen=True)
class Trial:
    """All that determines a trial's trajectory on a given machine and version.

    Attributes:
      workload: a name from the registry.
      entry: a folder of `submission/entries`.
      study: index from 0; repeats of a study differ in their seeds only.
      trial: index from 1 into the search space.
      hyperparameters: the search space's point for this trial.
      seed: base seed of all trials.
      max_steps: stops earlier than the workload's step hint, if given.
      ignore_targets: trains on after both targets are met.
    """

    workload: str
    entry: str
    study: int
    trial: int
    hyperparameters: Mapping[str, float]
    seed: int = 0
    max_steps: int | None = None
    ignore_targets: bool = False

    def __post_init__(self) -> None:
        for name, least in (("study", 0), ("trial", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name}={getattr(self, name)}: must be at least {least}")
        if self.max_steps is not None and self.max_steps < 1:
            raise UserError(f"--max_steps={self.max_steps}: must be at least 1")

    @property
    def name(self) -> str:
        """A short label for people."""
        return f"{self.entry} on {self.workload}, study {self.study}, trial {self.trial}"

    @property
    def rng_seed(self) -> int:
        """The seed of everything random in the trial; equal for all entries."""
        key = prng.key(self.seed)
        for part in (self.study, self.trial, zlib.crc32(self.workload.encode())):
            key = prng.fold_in(key, part)
        return prng.seed(key)

    def directory(self, output: Path) -> Path:
        """The folder of the trial's files under a study's output."""
        workload = f"{self.workload}_{FRAMEWORK}"
        return output / self.entry / f"study_{self.study}" / workload / f"trial_{self.trial}"

    def settings(self) -> dict[str, Any]:
        """The fields recorded in flags_0.json; a resumed trial must have the same."""
        fields = dataclasses.asdict(self)
        del fields["hyperparameters"]
        return fields


def check_same(trial: Trial, directory: Path) -> None:
    """UserError if `directory` holds files of a trial with other settings or hyperparameters."""
    for name, ours in (
        (HPARAMS, dict(trial.hyperparameters)),
        ("flags_0.json", trial.settings()),
    ):
        path = directory / name
        if not path.exists():
            continue
        theirs = files.read_json(path)
        for key, value in ours.items():
            if not isinstance(theirs, dict) or theirs.get(key, value) != value:
                found = theirs.get(key) if isinstance(theirs, dict) else theirs
                raise UserError(
                    f"{path} was written with {key}={found}, not {value}; "
                    "choose another --output, or --overwrite the trial"
                )
        if name == HPARAMS and set(theirs) != set(ours):
            raise UserError(
                f"{path} has hyperparameters {sorted(theirs)}, not {sorted(ours)}; "
                "choose another --output, or --overwrite the trial"
            )


def read_status(directory: Path) -> dict[str, Any] | None:
    """status.json of a finished trial, None for an unfinished one; UserError if damaged."""
    path = directory / STATUS
    if not path.exists():
        return None
    status = files.read_json(path)
    known = {"status", "reason", "global_step", "accumulated_submission_time"}
    if not isinstance(status, dict) or not known <= set(status) or status["status"] != "complete":
        raise UserError(f"{path} does not say that the trial is complete; delete it to run again")
    return status


def is_complete(trial: Trial, output: Path) -> bool:
    """Whether the very same trial has finished; a damaged or different one has not."""
    directory = trial.directory(output)
    try:
        if read_status(directory) is None:
            return False
        check_same(trial, directory)
    except UserError:
        return False
    return True


@contextmanager
def locked(directory: Path, what: str) -> Iterator[None]:
    """Holds an exclusive lock on a folder; UserError if another process holds it."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is running {what} in {directory}") from error
        yield
    finally:
        os.close(handle)


def clear(directory: Path) -> None:
    """Removes everything in a trial's folder but its log."""
    for path in directory.iterdir():
        if path.name == LOG:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
