"""What one trial is, and where its files lie: AlgoPerf's log layout plus our status.json.

>>> trial = Trial("mnist_vit", "adamw", study=0, trial=1, hyperparameters={"learning_rate": 0.1})
>>> trial.directory(Path("runs")).as_posix()
'runs/adamw/study_0/mnist_vit_pytorch/trial_1'

The seed knows neither the entry nor the trial's number: all trials of a study on a workload are
compared on the same initial weights and data.

>>> import dataclasses
>>> trial.rng_seed == dataclasses.replace(trial, entry="shampoo", trial=3).rng_seed
True
>>> trial.rng_seed == dataclasses.replace(trial, study=1).rng_seed
False
"""

import dataclasses
import math
import reprlib
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import files
from common.cli import UserError
from scripts.local import lock
from scripts.local.metrics_log import EVALUATIONS, lost_rows, read_evaluations
from workloads import prng, registry

HPARAMS = "hparams.json"
FLAGS_GIVEN = "flags_0.json"
STATUS = "status.json"
CHECKPOINT = "checkpoint.pt"
LOG = "log.txt"
# Folders of logs are read up to here, and every integer up to there is exact as a float.
LARGEST_NUMBER, LARGEST_STEP = 10**9 - 1, 2**53
# That one command plans.
MOST_STUDIES = 1000
_REMEDY = "choose another --output, or --overwrite the trial"


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
      search_space: the file that the point is from, for messages.
      framework: `pytorch` or `jax`, which is the entry's.
    """

    workload: str
    entry: str
    study: int
    trial: int
    hyperparameters: Mapping[str, float]
    seed: int = 0
    max_steps: int | None = None
    ignore_targets: bool = False
    search_space: str = dataclasses.field(default="its search space", compare=False)
    framework: str = "pytorch"

    def __post_init__(self) -> None:
        for name, least in (("study", 0), ("trial", 1)):
            if not least <= (number := getattr(self, name)) <= LARGEST_NUMBER:
                allowed = f"allowed: {least} to {LARGEST_NUMBER}"
                raise UserError(f"--{name}={number}: {allowed}")
        if self.seed < 0:
            raise UserError(f"--seed={self.seed}: must be at least 0")
        if self.max_steps is not None and self.max_steps < 1:
            raise UserError(f"--max_steps={self.max_steps}: must be at least 1")

    @property
    def name(self) -> str:
        """A short label for people."""
        return f"{self.entry} on {self.workload}, study {self.study}, trial {self.trial}"

    @property
    def rng_seed(self) -> int:
        """The seed of everything random in the trial; equal for all entries and points."""
        key = prng.key(self.seed)
        for part in (self.study, zlib.crc32(self.workload.encode())):
            key = prng.fold_in(key, part)
        return prng.seed(key)

    def directory(self, output: Path) -> Path:
        """The folder of the trial's files under a study's output."""
        workload = f"{self.workload}_{self.framework}"
        return output / self.entry / f"study_{self.study}" / workload / f"trial_{self.trial}"

    def settings(self) -> dict[str, Any]:
        """What its files record of a trial besides its point; one that differs is another trial.

        A trial that ignores the targets is the same whatever they are, and records None for them.
        """
        fields = dataclasses.asdict(self)
        # The framework is in the path of the trial's folder.
        del fields["hyperparameters"], fields["search_space"], fields["framework"]
        facts = registry.facts(self.workload)
        return fields | {
            "step_hint": facts.step_hint,
            "eval_period_steps": facts.eval_period_steps,
            "max_runtime_seconds": facts.max_runtime_seconds,
            "validation_target": None if self.ignore_targets else facts.validation_target,
            "test_target": None if self.ignore_targets else facts.test_target,
        }


def require_same(
    where: str,
    recorded: Any,
    expected: Mapping[str, Any],
    more_is_allowed: bool = False,
    remedy: str = _REMEDY,
) -> None:
    """UserError naming `where` and the first difference, unless both hold the same values.

    Args:
      more_is_allowed: whether `recorded` may hold other names, too.
      remedy: what the user can do about a difference.
    """
    if not isinstance(recorded, dict):
        raise UserError(f"{where} is damaged or of another version: it records no settings")
    more = () if more_is_allowed else sorted(recorded.keys() - expected.keys(), key=str)
    for name in (*expected, *more):
        if name in recorded and name in expected and recorded[name] == expected[name]:
            continue
        then, now = (
            f"{name}={reprlib.repr(values[name])}" if name in values else f"no {name}"
            for values in (recorded, expected)
        )
        raise UserError(f"{where} was written with {then}, not {now}; {remedy}")


def check_same(trial: Trial, directory: Path) -> None:
    """UserError if `directory` holds files of a trial with other settings or hyperparameters."""
    hparams, flags = directory / HPARAMS, directory / FLAGS_GIVEN
    if hparams.exists():
        require_same(str(hparams), files.read_json(hparams), trial.hyperparameters)
    if flags.exists():
        require_same(str(flags), files.read_json(flags), trial.settings(), more_is_allowed=True)


def read_status(directory: Path) -> dict[str, Any] | None:
    """status.json of a finished trial, None for an unfinished one; UserError if damaged.

    It has `reason` (targets, steps, time or submission), `global_step` (the last one),
    `accumulated_submission_time` (seconds), and, unless it is old, `evaluations` (how many).
    """
    path = directory / STATUS
    if not path.exists():
        return None
    status = files.read_json(path)
    if not isinstance(status, dict):
        raise UserError(f"{path} holds no JSON object; delete it to run the trial again")
    if not (
        status.get("status") == "complete"
        and isinstance(status.get("reason"), str)
        and _is_count(status.get("global_step"))
        and _is_count(status.get("evaluations", 0))
        and _is_seconds(status.get("accumulated_submission_time"))
    ):
        raise UserError(
            f"{path} does not say that the trial is complete, why, at which step and second; "
            "delete it to run the trial again"
        )
    return status


def _is_count(value: Any) -> bool:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return is_integer and 0 <= value <= LARGEST_STEP


def _is_seconds(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= LARGEST_STEP and not math.isnan(value)


def finished(trial: Trial, directory: Path) -> dict[str, Any] | None:
    """status.json if this very trial has finished in `directory`, None if it may start or go on.

    UserError if the folder holds another trial, or one of which it cannot be known.
    """
    check_same(trial, directory)
    status = read_status(directory)
    for name in (HPARAMS, FLAGS_GIVEN):
        if status is not None and not (directory / name).exists():
            raise UserError(f"{directory} holds a finished trial without its {name}; {_REMEDY}")
    path = directory / EVALUATIONS
    if status is not None and (path.exists() or was_evaluated(status)):
        steps = [row["global_step"] for row in read_evaluations(directory)]
        if problem := lost_rows(steps, status):
            raise UserError(f"{path} {problem}; {_REMEDY}")
    return status


def was_evaluated(status: Mapping[str, Any]) -> bool:
    """Whether a finished trial has evaluations: time may be up before the first one."""
    return bool(status.get("evaluations", status["reason"] != "time"))


def is_complete(trial: Trial, output: Path) -> bool:
    """Whether the very same trial has finished; a damaged or different one has not."""
    try:
        return finished(trial, trial.directory(output)) is not None
    except UserError:
        return False


def clear(directory: Path) -> None:
    """Removes everything in a trial's folder but its log and the lock that the caller holds.

    Checkpoint and status go first: an interruption must not leave them without the files that say
    of which trial they are.
    """
    for name in (CHECKPOINT, STATUS):
        (directory / name).unlink(missing_ok=True)
    for path in directory.iterdir():
        if path.name in (LOG, lock.NAME):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
