"""Reads evaluations from one tidy table: CSV, gzipped CSV or Parquet."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.evaluations import Problem, check_range, parse_numbers
from common.cli import UserError
from scripts.local.metrics_log import DamagedError, split_rows
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

    Args:
      path: a file whose name ends with one of SUFFIXES. Its columns are those of `Logs.frame`, of
        which framework, hyperparameters, finished and cut may be missing; `val_metric` is another
        name of validation_metric, and where there is a `metric_name`, it must be the workload's
        metric.
      version: of the benchmark, as `workloads.registry.facts` takes it.
      keys: the columns that tell trials apart.

    Raises:
      UserError: the table is damaged or cut off, lacks columns, or mixes several tracks.
    """
    try:
        table, lines = _load(path)
        table = table.rename(columns=_ALIASES)
        if twice := table.columns[table.columns.duplicated()].tolist():
            raise DamagedError(f"has column {str(twice[0])!r} twice")
        if missing := [name for name in _REQUIRED if name not in table]:
            raise DamagedError(f"is missing columns {', '.join(missing)}")
        for name in _TRACK:
            tracks = sorted(set(map(str, table[name]))) if name in table else []
            if len(tracks) > 1:
                listed = f"{name}: {', '.join(tracks)}"
                raise DamagedError(f"holds several tracks ({listed}); give one of them")
        frame = _convert(table, lines)
    except DamagedError as error:
        raise UserError(f"{path} {error}") from error
    problems: list[Problem] = []
    frame = _select_known(frame, table, version, path, problems)
    frame = frame.astype(dict.fromkeys(_INTEGERS, np.int64))
    return frame.sort_values(keys, kind="stable", ignore_index=True), problems


def _load(path: Path) -> tuple[pd.DataFrame, Sequence[int]]:
    """The table, and the line of the file of each row."""
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            return table, range(1, len(table) + 1)
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except Exception as error:  # a damaged file fails in any layer below these
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [""])[0]
        raise DamagedError(f"cannot be read: {reason}") from error
    header, rows, lines = split_rows(content)
    return pd.DataFrame(rows, columns=header, dtype=object), lines


def _convert(table: pd.DataFrame, lines: Sequence[int]) -> pd.DataFrame:
    """The frame, all its numbers as float64; DamagedError for the first that is none."""
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
        if pd.api.types.is_any_real_numeric_dtype(table[name]):
            frame[name] = table[name].to_numpy(float, na_value=np.nan)
        else:
            is_bool = pd.api.types.is_bool_dtype(table[name])
            cells = _cells(table[name].astype(str) if is_bool else table[name])
            frame[name] = parse_numbers(cells.to_numpy(object), name, reasons)
    for name in (*_INTEGERS, "score"):
        check_range(frame[name].to_numpy(), name, reasons)
    if reasons:
        row = min(reasons)
        raise DamagedError(f"is damaged: line {lines[row]}: {reasons[row]}")
    keys = ["submission", "workload", "framework", "study", "trial", "hyperparameters"]
    return frame[[*keys, "finished", "cut", "global_step", *_FLOATS]]


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
