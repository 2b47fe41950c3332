"""The files of one trial's folder, each read strictly: a damaged one is never used in part."""

import csv
import dataclasses
import json
import math
from pathlib import Path

from common import files
from common.cli import UserError

EVALUATIONS_FILE = "eval_measurements.csv"
HYPERPARAMETERS_FILE = "hparams.json"
STATUS_FILE = "status.json"
CHECKPOINT_FILE = "checkpoint.pt"
# Every integer up to here is exact as a float.
LARGEST_STEP = 2**53


class DamagedError(ValueError):
    """A file that cannot be trusted; the message says why, without the path."""


@dataclasses.dataclass(frozen=True)
class Status:
    """How a trial of our own runner ended; the official runner leaves no such file.

    Attributes:
      reason: targets, steps, time or submission.
      global_step: the last step.
      seconds: submission time at the end.
    """

    reason: str
    global_step: int
    seconds: float


def read_status(folder: Path) -> Status | None:
    """How the trial in `folder` ended, None where it does not say that it has.

    Raises:
      DamagedError: the file cannot be trusted.
    """
    path = folder / STATUS_FILE
    if not path.exists():
        return None
    status = _read_object(path)
    step, seconds = status.get("global_step"), status.get("accumulated_submission_time")
    if (
        status.get("status") != "complete"
        or not isinstance(step, int)
        or not isinstance(seconds, int | float)
        or not (step >= 0 and 0 <= seconds < math.inf)
    ):
        raise DamagedError("does not say that the trial is complete, at which step and second")
    return Status(str(status.get("reason")), step, float(seconds))


def read_hyperparameters(folder: Path) -> str:
    """The trial's hyperparameters as compact JSON with sorted keys; empty where not logged.

    Raises:
      DamagedError: the file cannot be trusted.
    """
    path = folder / HYPERPARAMETERS_FILE
    if not path.exists():
        return ""
    return json.dumps(_read_object(path), sort_keys=True, separators=(",", ":"))


def _read_object(path: Path) -> dict[str, object]:
    try:
        value = files.read_json(path)
    except UserError as error:
        raise DamagedError(str(error).removeprefix(f"{path} ")) from error
    if not isinstance(value, dict):
        raise DamagedError("holds no JSON object")
    return value


def read_evaluations(path: Path, metric: str) -> dict[str, list[float]]:
    """The columns of one file of evaluations, by their names in `Logs.frame`.

    Args:
      path: an `eval_measurements.csv`.
      metric: the workload's metric, without its split.

    Raises:
      DamagedError: the file cannot be trusted.
    """
    sources = {
        "global_step": "global_step",
        "score": "score",
        "cpu_seconds": "accumulated_submission_cpu_time",
        "train_metric": f"train/{metric}",
        "validation_metric": f"validation/{metric}",
        "test_metric": f"test/{metric}",
    }
    header, rows = _read_table(path)
    missing = [sources[k] for k in ("global_step", "score") if sources[k] not in header]
    if sources["validation_metric"] not in header:
        missing.append(sources["validation_metric"])
    if missing:
        raise DamagedError(f"missing columns {', '.join(missing)}")
    columns: dict[str, list[float]] = {}
    for name, source in sources.items():
        if source not in header:
            columns[name] = [math.nan] * len(rows)
            continue
        index = header.index(source)
        try:
            columns[name] = [float(row[index] or "nan") for row in rows]
        except ValueError:
            # Which cell it is, is looked for only now: most columns are all numbers.
            columns[name] = [
                _number(row[index], source, line) for line, row in enumerate(rows, start=2)
            ]
    for name in ("global_step", "score"):
        for line, value in enumerate(columns[name], start=2):
            if not (math.isfinite(value) and value >= 0):
                raise DamagedError(f"line {line}: {name} is {value}, not a number from 0 on")
    for line, value in enumerate(columns["global_step"], start=2):
        if value != int(value) or value > LARGEST_STEP:
            raise DamagedError(f"line {line}: global_step is {value}, not an integer of a step")
    columns["global_step"] = [int(value) for value in columns["global_step"]]
    return columns


def _read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a CSV file, all rows as wide as the header."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DamagedError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DamagedError("is not text") from error
    if not text.strip():
        raise DamagedError("is empty")
    # Without the last newline the last number may have lost digits, and nothing else would show it.
    if not text.endswith("\n"):
        raise DamagedError("is truncated: the last line has no end")
    try:
        header, *rows = csv.reader(text.splitlines())
    except csv.Error as error:
        raise DamagedError(f"is not CSV: {error}") from error
    if not rows:
        raise DamagedError("holds no evaluation")
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DamagedError(f"line {line} has {len(row)} of {len(header)} columns")
    return header, rows


def _number(cell: str, column: str, line: int) -> float:
    """The number in a cell; an empty cell is NaN, as pandas writes it."""
    if not cell.strip():
        return math.nan
    try:
        return float(cell)
    except ValueError:
        raise DamagedError(f"line {line}: {column} is {cell[:40]!r}, not a number") from None
