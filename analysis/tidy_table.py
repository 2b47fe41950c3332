"""Reads evaluations from one tidy table: CSV, gzipped CSV or Parquet."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.evaluations import DamagedError, Problem, check_range, parse_numbers, split_rows
from common.cli import UserError
from workloads import registry

SUFFIXES = (".csv", ".csv.gz", ".parquet")

# Accepted names of a column besides its name in `Logs.frame`.
_ALIASES = {"val_metric": "validation_metric"}
_TEXTS = ("submission", "workload", "framework", "hyperparameters")
_INTEGERS = ("study", "trial", "global_step")
_FLOATS = ("score", "validation_metric")
_REQUIRED = ("submission", "workload", *_INTEGERS, "score", "validation_metric")
# A table may hold several tracks of a leaderboard, whose trials must not be mixed.
_TRACK = ("ruleset_version", "ruleset")


def read_table(
    path: Path, version: str | None, keys: list[str]
) -> tuple[pd.DataFrame, list[Problem]]:
    """The evaluations of a table, sorted by `keys`, with the columns of `Logs.frame`.

    A damaged row makes its whole trial unusable, as a damaged file does.

    Args:
      path: a file whose name ends with one of SUFFIXES. Its columns are those of `Logs.frame`, of
        which framework, hyperparameters, finished and cut may be missing; `val_metric` is another
        name of validation_metric, and where there is a `metric_name`, it must be the workload's
        metric.
      version: of the benchmark, as `workloads.registry.facts` takes it.
      keys: the columns that tell trials apart.

    Raises:
      UserError: the table is damaged as a whole or cut off, lacks columns, or mixes several tracks.
    """
    problems: list[Problem] = []
    table, lines = _load(path, problems)
    table = table.rename(columns=_ALIASES)
    if twice := table.columns[table.columns.duplicated()].tolist():
        raise UserError(f"{path} has column {str(twice[0])!r} twice")
    if missing := [name for name in _REQUIRED if name not in table]:
        raise UserError(f"{path}: missing columns {', '.join(missing)}")
    for name in _TRACK:
        tracks = sorted(set(map(str, table[name]))) if name in table else []
        if len(tracks) > 1:
            raise UserError(
                f"{path}: holds several tracks ({name}: {', '.join(tracks)}); give one of them"
            )
    frame, reasons = _convert(table)
    reasons = {row: f"line {lines[row]}: {reason}" for row, reason in reasons.items()}
    trial = frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    named = np.isfinite(frame[["study", "trial"]]).all(axis=1).to_numpy()
    damaged = np.array(sorted(reasons), dtype=int)
    for row in damaged[np.sort(np.unique(trial[damaged], return_index=True)[1])]:
        name = "{0}/study_{3:g}/{1}_{2}/trial_{4:g}".format(*frame.loc[row, keys])
        reason = f"{name}: {reasons[row]}" if named[row] else reasons[row]
        problems.append(Problem(path, f"{reason}; left out"))
    frame = frame[~np.isin(trial, trial[damaged]) & named]
    frame = _select_known(frame, table, version, path, problems)
    frame = frame.astype(dict.fromkeys(_INTEGERS, np.int64))
    return frame.sort_values(keys, kind="stable", ignore_index=True), problems


def _load(path: Path, problems: list[Problem]) -> tuple[pd.DataFrame, np.ndarray]:
    """The table, and the line of the file of each row; lines of another width are left out."""
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            return table, np.arange(1, len(table) + 1)
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        if not text.strip():
            raise DamagedError("the file is empty")
        # Without the last newline the last number may have lost digits.
        if not text.endswith("\n"):
            raise DamagedError("it is truncated: the last line has no end")
        header, rows, lines, damaged = split_rows(text)
    except Exception as error:  # a damaged file fails in any layer below these
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [""])[0]
        raise UserError(f"{path} cannot be read: {reason}") from error
    problems.extend(Problem(path, f"{reason}; left out") for reason in damaged)
    return pd.DataFrame(rows, columns=header, dtype=object), np.array(lines, dtype=int)


def _convert(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[int, str]]:
    """The frame, all its numbers as float64, and by damaged row what is wrong with it."""
    reasons: dict[int, str] = {}
    frame = pd.DataFrame(index=range(len(table)))
    for name in _TEXTS:
        frame[name] = _cells(table[name]).map(str).to_numpy() if name in table else ""
    for name, unlogged in (("finished", True), ("cut", False)):
        frame[name] = unlogged
        if name in table:
            texts = table[name].astype(str).str.lower().to_numpy()
            frame[name] = texts != "false" if unlogged else texts == "true"
    for name in (*_INTEGERS, *_FLOATS):
        if name not in table:
            frame[name] = np.nan
        elif pd.api.types.is_any_real_numeric_dtype(table[name]):
            frame[name] = table[name].to_numpy(float, na_value=np.nan)
        else:
            is_bool = pd.api.types.is_bool_dtype(table[name])
            cells = _cells(table[name].astype(str) if is_bool else table[name])
            frame[name] = parse_numbers(cells.to_numpy(object), name, reasons)
    for name in (*_INTEGERS, "score"):
        check_range(frame[name].to_numpy(), name, reasons)
    keys = ["submission", "workload", "framework", "study", "trial", "hyperparameters"]
    return frame[[*keys, "finished", "cut", "global_step", *_FLOATS]], reasons


def _cells(column: pd.Series) -> pd.Series:
    """The values as objects, missing ones as empty texts."""
    return column.astype(object).where(column.notna(), "")


def _select_known(
    frame: pd.DataFrame,
    table: pd.DataFrame,
    version: str | None,
    path: Path,
    problems: list[Problem],
) -> pd.DataFrame:
    """The rows of known workloads, measured by their metric; reports the others."""
    known = registry.names(version=version)
    use = pd.Series(True, index=frame.index)
    for name, rows in frame.groupby("workload").groups.items():
        if name not in known:
            use[rows] = False
            problems.append(Problem(path, f"unknown workload {name!r}; left out"))
        elif "metric_name" in table:
            metric = registry.facts(str(name), version).metric
            logged = table["metric_name"].loc[rows].astype(str)
            wrong = logged[logged.str.removeprefix("validation/") != metric]
            use[wrong.index] = False
            if len(wrong):
                reason = f"metric_name is {wrong.iloc[0]!r} instead of {metric!r}"
                reason = f"workload {name}: {reason} in {len(wrong)} rows; left out"
                problems.append(Problem(path, reason))
    return frame[use]
