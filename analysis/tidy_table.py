"""Reads evaluations from one tidy table: CSV, gzipped CSV or Parquet."""

import csv
import io
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.evaluations import Problem
from analysis.trial_files import LARGEST_STEP
from common.cli import UserError
from workloads import registry

SUFFIXES = (".csv", ".csv.gz", ".parquet")

# Accepted names of a column besides its name in `Logs.frame`.
_ALIASES = {"val_metric": "validation_metric"}
_TEXTS = ("submission", "workload", "framework", "hyperparameters")
_INTEGERS = ("study", "trial", "global_step")
_FLOATS = ("score", "cpu_seconds", "train_metric", "validation_metric", "test_metric")
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
        which framework, hyperparameters, finished, cpu_seconds, train_metric and test_metric may be
        missing; `val_metric` is another name of validation_metric, and where there is a
        `metric_name`, it must be the workload's metric.
      version: of the benchmark, as `workloads.registry.facts` takes it.
      keys: the columns that tell trials apart.

    Raises:
      UserError: the table cannot be read at all, lacks columns, or mixes several tracks.
    """
    problems: list[Problem] = []
    table, lines, truncated = _load(path, problems)
    table = table.rename(columns=_ALIASES)
    if missing := [name for name in _REQUIRED if name not in table]:
        raise UserError(f"{path}: missing columns {', '.join(missing)}")
    for name in _TRACK:
        tracks = sorted(map(str, table[name].unique())) if name in table else []
        if len(tracks) > 1:
            raise UserError(
                f"{path}: holds several tracks ({name}: {', '.join(tracks)}); give one of them"
            )
    frame, reasons = _convert(table)
    reasons = {row: f"line {lines[row]}: {reason}" for row, reason in reasons.items()}
    if truncated and len(frame):
        reasons.setdefault(len(frame) - 1, "the table is cut off within or after it")
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


def _load(path: Path, problems: list[Problem]) -> tuple[pd.DataFrame, np.ndarray, bool]:
    """The table, the line of the file of each row, and whether the file's end is missing."""
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            return table, np.arange(1, len(table) + 1), False
        content, truncated = path.read_bytes(), False
        if path.suffix == ".gz":
            decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            content = decompressor.decompress(content)
            truncated = not decompressor.eof
    except (OSError, ValueError, zlib.error) as error:  # pyarrow's errors are ValueErrors
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read: {reason}") from error
    if not content.endswith(b"\n"):
        content, truncated = content[: content.rfind(b"\n") + 1], True
    if not content.strip():
        raise UserError(f"{path} is empty")
    if truncated:
        problems.append(Problem(path, "is truncated: the last line has no end"))
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        text = content.decode(errors="replace")
        problems.append(Problem(path, f"line {line} is not text; its odd bytes are replaced"))
    return *_parse(text, path, problems), truncated


def _parse(text: str, path: Path, problems: list[Problem]) -> tuple[pd.DataFrame, np.ndarray]:
    """A table of texts, and each row's line; reports rows of another width than the header's.

    pandas pads rows that are too short in silence, so the rows are split here.
    """
    rows, lines = [], []
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next(reader)
        for row in reader:
            if len(row) == len(header):
                rows.append(row)
                lines.append(reader.line_num)
            else:
                width = f"line {reader.line_num} has {len(row)} of {len(header)} columns"
                problems.append(Problem(path, f"{width}; left out"))
    except csv.Error as error:
        raise UserError(f"{path} cannot be read: line {reader.line_num}: {error}") from error
    columns = zip(*rows, strict=True) if rows else [[] for _ in header]
    table = {name: list(values) for name, values in zip(header, columns, strict=True)}
    return pd.DataFrame(table, dtype=object), np.array(lines, dtype=int)


def _convert(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[int, str]]:
    """The frame, all its numbers as float64, and by damaged row what is wrong with it."""
    reasons: dict[int, str] = {}
    frame = pd.DataFrame(index=range(len(table)))
    for name in _TEXTS:
        frame[name] = table[name].fillna("").astype(str).to_numpy() if name in table else ""
    frame["finished"] = True
    if "finished" in table:
        frame["finished"] = (table["finished"].astype(str).str.lower() != "false").to_numpy()
    for name in (*_INTEGERS, *_FLOATS):
        frame[name] = _numbers(table[name], reasons) if name in table else np.nan
    for name in (*_INTEGERS, "score"):
        values = frame[name].to_numpy()
        valid = np.isfinite(values) & (values >= 0)
        if name != "score":
            valid &= (values == np.trunc(values)) & (values <= LARGEST_STEP)
        kind = "number" if name == "score" else "whole number"
        for row in np.flatnonzero(~valid):
            reasons.setdefault(int(row), f"{name} is {values[row]:g}, not a {kind} from 0 on")
    keys = ["submission", "workload", "framework", "study", "trial", "hyperparameters", "finished"]
    return frame[[*keys, "global_step", *_FLOATS]], reasons


def _numbers(column: pd.Series, reasons: dict[int, str]) -> np.ndarray:
    """A column as float64, NaN for empty cells and for texts that are no numbers."""
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(float, na_value=np.nan)
    cells = column.fillna("nan").replace("", "nan").to_numpy(object)
    try:
        return cells.astype(float)
    except ValueError:
        values = np.full(len(cells), np.nan)
    for row, text in enumerate(cells):
        try:
            values[row] = float(text if text.strip() else "nan")
        except ValueError:
            reasons[row] = f"{column.name} is {text[:40]!r}, not a number"
    return values


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
