"""The files of one trial's folder, each read strictly: a damaged one is never used in part."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analysis.evaluations import check_range, parse_numbers
from common import files
from common.cli import UserError
from scripts.local import trial
from scripts.local.metrics_log import DamagedError, lost_rows, split_rows
from scripts.local.trial import FLAGS_GIVEN, HPARAMS, STATUS

Status = Mapping[str, Any]


def read_status(folder: Path) -> Status | None:
    """How the trial in `folder` ended, as `trial.read_status`; None where it says no end.

    Raises:
      DamagedError: the file cannot be trusted.
    """
    try:
        return trial.read_status(folder)
    except UserError as error:
        raise DamagedError(str(error).removeprefix(f"{folder / STATUS} ")) from error


def was_cut(folder: Path, status: Status) -> bool:
    """Whether a trial ended at `--max_steps`, before its workload's steps; False where not logged.

    Raises:
      DamagedError: the file of its flags cannot be trusted.
    """
    if status["reason"] != "steps" or not (folder / FLAGS_GIVEN).exists():
        return False
    given = read_object(folder / FLAGS_GIVEN)
    limits = [given.get(name) for name in ("max_steps", "max_global_steps")]
    hint = given.get("step_hint")
    is_before_end = not isinstance(hint, int) or status["global_step"] < hint
    return any(limit is not None for limit in limits) and is_before_end


def read_hyperparameters(folder: Path) -> str:
    """The trial's hyperparameters as compact JSON with sorted keys; empty where not logged.

    Raises:
      DamagedError: the file cannot be trusted.
    """
    path = folder / HPARAMS
    if not path.exists():
        return ""
    return json.dumps(read_object(path), sort_keys=True, separators=(",", ":"))


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
      DamagedError: the file cannot be trusted, or holds something else.
    """
    try:
        value = files.read_json(path)
    except UserError as error:
        raise DamagedError(str(error).removeprefix(f"{path} ")) from error
    if not isinstance(value, dict):
        raise DamagedError("holds no JSON object")
    return value


def read_evaluations(
    path: Path, metric: str, status: Status | None = None
) -> dict[str, np.ndarray]:
    """The columns of one file of evaluations, float64, by their names in `Logs.frame`.

    Args:
      path: an `eval_measurements.csv`.
      metric: the workload's metric, without its split.
      status: how the trial ended, if it has.

    Raises:
      DamagedError: the file cannot be trusted, or lacks evaluations that the status knows of.
    """
    sources = {
        "global_step": "global_step",
        "score": "score",
        "validation_metric": f"validation/{metric}",
    }
    try:
        content = files.read_bytes(path)
    except UserError as error:
        raise DamagedError(str(error).removeprefix(f"{path} ")) from error
    header, rows, lines = split_rows(content)
    if not rows:
        raise DamagedError("holds no evaluation")
    if missing := [source for source in sources.values() if source not in header]:
        raise DamagedError(f"missing columns {', '.join(missing)}")
    columns: dict[str, np.ndarray] = {}
    reasons: dict[int, str] = {}
    for name, source in sources.items():
        index = header.index(source)
        cells = np.array([row[index] for row in rows], dtype=object)
        columns[name] = parse_numbers(cells, source, reasons)
    for name in ("global_step", "score"):
        check_range(columns[name], name, reasons)
    if reasons:
        row = min(reasons)
        raise DamagedError(f"line {lines[row]}: {reasons[row]}")
    if status is not None and (problem := lost_rows(columns["global_step"].tolist(), status)):
        raise DamagedError(problem)
    return columns
