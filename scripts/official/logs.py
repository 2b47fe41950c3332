"""The state of a trial from the official runner's files, and their repair before it goes on.

The runner writes no file atomically. A trial is complete once the last row of measurements.csv is
the one with the score alone that the runner adds when it leaves its training loop; what it does
after that, a last checkpoint and the end of its processes, may fail without harm to the result. We
then write status.json, which logs made elsewhere lack as well as a trial of ours that was killed
just then.
"""

import math
import shutil
import zipfile
from pathlib import Path
from typing import Any

from common import files
from common.cli import UserError
from scripts.local import metrics_log
from scripts.local import trial as trials
from scripts.local.entry_info import SPACE
from scripts.local.metrics_log import EVALUATIONS, MEASUREMENTS
from scripts.local.trial import FLAGS_GIVEN, HPARAMS, LOG
from scripts.official import ends
from scripts.official.trial import OfficialTrial

BACKUP = "backup"
LAUNCH = "launch_{}.json"
_CHECKPOINT = "checkpoint_"
_REMEDY = "choose another --experiment_dir, or move the trial's folder away"

Rows = list[dict[str, str]]


def checkpoints(directory: Path) -> list[Path]:
    """The runner's checkpoints, from the first to the last step."""
    paths = directory.glob(f"{_CHECKPOINT}*")
    return sorted((path for path in paths if path.name[len(_CHECKPOINT) :].isdecimal()), key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(_CHECKPOINT))


def read_rows(path: Path) -> Rows:
    """The rows of one of the runner's tables; none if there is no such file, UserError if damaged.

    An empty table is what the runner leaves if it ends while it writes; it counts as damaged.
    """
    if not path.exists():
        return []
    rows = metrics_log.read_csv(path, ["global_step"])
    for line, row in enumerate(rows, start=2):
        for name, text in row.items():
            if problem := _problem(name, text):
                raise UserError(f"{path} is damaged: line {line}: {name} is {text!r}, {problem}")
    return rows


def _problem(name: str, text: str) -> str:
    """What is wrong with a cell of one of the runner's tables; empty if nothing is."""
    is_metric = name.startswith(("train/", "validation/", "test/"))
    if not (is_metric or name in ("global_step", "score", "preemption_count")):
        return ""
    if not text and name != "global_step":  # not logged in this row
        return ""
    try:
        value = float(text)
    except ValueError:
        return "not a number"
    if is_metric or (0 <= value < math.inf and (name == "score" or value.is_integer())):
        return ""
    return "not a number from 0 on" if name == "score" else "not a whole number from 0 on"


def ending(trial: OfficialTrial, directory: Path) -> dict[str, Any] | None:
    """The content of status.json once the runner has left its training loop, else None.

    UserError naming a damaged table.
    """
    rows, evaluations = read_rows(directory / MEASUREMENTS), read_rows(directory / EVALUATIONS)
    if not rows or not rows[-1].get("score") or rows[-1].get("accumulated_submission_time"):
        return None
    step, seconds = int(float(rows[-1]["global_step"])), float(rows[-1]["score"])
    return {
        "status": "complete",
        "reason": ends.reason(trial, directory, evaluations, step, seconds),
        "global_step": step,
        "accumulated_submission_time": seconds,
        "evaluations": len(evaluations),
        "preemption_count": int(float(rows[-1].get("preemption_count") or 0)),
    }


def finished(trial: OfficialTrial, directory: Path) -> dict[str, Any] | None:
    """The status of this very trial if it has ended in `directory`, None if it may start or go on.

    Logs made elsewhere, which have no record of a launch, may have any seed; `source` marks them.

    Raises:
      UserError: the folder holds another trial, or files that cannot be trusted.
    """
    status = trials.read_status(directory)
    if status is None:
        status = _unrecorded(trial, directory)
    elif trials.was_evaluated(status):
        steps = [float(row["global_step"]) for row in read_rows(directory / EVALUATIONS)]
        if not steps:
            raise UserError(f"{directory} is complete, but has no {EVALUATIONS}; {_REMEDY}")
        if problem := metrics_log.lost_rows(steps, status):
            raise UserError(f"{directory / EVALUATIONS} {problem}; {_REMEDY}")
    if status is None and not checkpoints(directory):
        return None
    point, flags = directory / HPARAMS, directory / FLAGS_GIVEN
    if point.exists() and trial.entry.ruleset == "external":
        recorded = files.read_json(point)
        trials.require_same(str(point), recorded, trial.trial.hyperparameters, remedy=_REMEDY)
    if flags.exists() and (status is None or "source" not in status):
        trials.require_same(str(flags), files.read_json(flags), trial.recorded(), True, _REMEDY)
    return status


def _unrecorded(trial: OfficialTrial, directory: Path) -> dict[str, Any] | None:
    """The status of a trial that has ended and has no status.json."""
    is_launched_here = (directory / LAUNCH.format(0)).exists()
    try:
        status = ending(trial, directory)
    except UserError:
        if is_launched_here:  # `prepare` mends it
            return None
        raise
    return status if status is None or is_launched_here else status | {"source": "logs"}


def prepare(directory: Path) -> int:
    """Readies an unfinished trial's folder for the runner; the step from which it goes on.

    A checkpoint that the runner could not finish is set aside, and rows of its tables that are
    later than the checkpoint are removed, for they will come again. A table that the runner left
    damaged is taken from its backup. Without a checkpoint the trial starts anew, and what there is
    moves into `attempt_N`. Nothing is deleted.

    Raises:
      UserError: a table is damaged and has no backup; or as `finished`.
    """
    for checkpoint in reversed(checkpoints(directory)):
        if is_intact(checkpoint):
            for name in (EVALUATIONS, MEASUREMENTS):
                _cut(directory, name, _step(checkpoint))
            return _step(checkpoint)
        checkpoint.rename(directory / f"damaged_{checkpoint.name}")
    set_aside(directory)
    return 0


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end; cheap.

    Under JAX it is a folder, which gets its name when it is whole.
    """
    return checkpoint.is_dir() or zipfile.is_zipfile(checkpoint)


def remove(checkpoint: Path) -> None:
    """Removes a checkpoint, which may be gone already."""
    if checkpoint.is_dir():
        shutil.rmtree(checkpoint)
    else:
        checkpoint.unlink(missing_ok=True)


def is_intact(checkpoint: Path) -> bool:
    """Whether every part of a checkpoint has its checksum; a folder, under JAX, has none."""
    if checkpoint.is_dir():
        return True
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError):
        return False


def set_aside(directory: Path) -> None:
    """Moves what a run without checkpoints left into the first free `attempt_N`."""
    stays = (".", "attempt_", LAUNCH.split("{")[0], LOG, SPACE)
    paths = [path for path in directory.iterdir() if not path.name.startswith(stays)]
    number = 0
    while (attempt := directory / f"attempt_{number}").exists():
        number += 1
    for path in paths:
        attempt.mkdir(exist_ok=True)
        path.rename(attempt / path.name)


def _cut(directory: Path, name: str, step: int) -> None:
    """Removes the rows of a table after `step`, with a copy of it in the backups."""
    path, backups = directory / name, directory / BACKUP
    try:
        rows = read_rows(path)
    except UserError as error:
        if not (backups / name).exists():
            raise UserError(f"{error}; {_REMEDY}") from error
        path.replace(directory / f"damaged_{name}")
        shutil.copy2(backups / name, path)
        rows = read_rows(path)
    earlier = [row for row in rows if float(row["global_step"]) <= step]
    if len(earlier) == len(rows):
        return
    backups.mkdir(exist_ok=True)
    number = len(list(backups.glob(f"{name}.cut_*")))
    shutil.copy2(path, backups / f"{name}.cut_{number}")
    if earlier:
        metrics_log.write_csv(path, earlier, list(rows[0]))
    else:
        path.unlink()
