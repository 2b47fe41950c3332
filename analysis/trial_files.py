"""The files of one trial's folder, each read strictly: a damaged one is never used in part."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np

from analysis.evaluations import DamagedError, check_range, parse_numbers, split_rows
from common import files
from common.cli import UserError

EVALUATIONS_FILE = "eval_measurements.csv"
HYPERPARAMETERS_FILE = "hparams.json"
STATUS_FILE = "status.json"
CHECKPOINT_FILE = "checkpoint.pt"


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


def read_evaluations(path: Path, metric: str) -> dict[str, np.ndarray]:
    """The columns of one file of evaluations, float64, by their names in `Logs.frame`.

    Args:
      path: an `eval_measurements.csv`.
      metric: the workload's metric, without its split.

    Raises:
      DamagedError: the file cannot be trusted.
    """
    sources = {
        "global_step": "global_step",
        "score": "score",
        "validation_metric": f"validation/{metric}",
        "cpu_seconds": "accumulated_submission_cpu_time",
        "train_metric": f"train/{metric}",
        "test_metric": f"test/{metric}",
    }
    header, rows, lines, damaged = split_rows(_read_text(path))
    if damaged:
        raise DamagedError(damaged[0])
    if not rows:
        raise DamagedError("holds no evaluation")
    if missing := [source for source in list(sources.values())[:3] if source not in header]:
        raise DamagedError(f"missing columns {', '.join(missing)}")
    columns: dict[str, np.ndarray] = {}
    reasons: dict[int, str] = {}
    for name, source in sources.items():
        columns[name] = np.full(len(rows), np.nan)
        if source in header:
            index = header.index(source)
            cells = np.array([row[index] for row in rows], dtype=object)
            columns[name] = parse_numbers(cells, source, reasons)
    for name in ("global_step", "score"):
        check_range(columns[name], name, reasons)
    if reasons:
        row = min(reasons)
        raise DamagedError(f"line {lines[row]}: {reasons[row]}")
    return columns


def _read_text(path: Path) -> str:
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
    return text
