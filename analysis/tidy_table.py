"""Reads evaluations from one tidy table: CSV, gzipped CSV or Parquet."""

import io
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from analysis.problem import Problem
from analysis.trial_files import LARGEST_STEP
from common.cli import UserError
from workloads import registry

SUFFIXES = (".csv", ".csv.gz", ".parquet")

# What a column may be called besides its name in `Logs.frame`.
_ALIASES = {"val_metric": "validation_metric"}
_TEXTS = ("submission", "workload", "framework", "hyperparameters")
_WHOLE = ("study", "trial", "global_step")
_NUMBERS = (*_WHOLE, "score", "cpu_seconds", "train_metric", "validation_metric", "test_metric")
_REQUIRED = ("submission", "workload", *_WHOLE, "score", "validation_metric")
# A table may hold several tracks of a leaderboard, whose trials must not be mixed.
_TRACK = ("ruleset_version", "ruleset")


def is_table(path: Path) -> bool:
    """Whether a path's name is that of a tidy table."""
    return path.name.endswith(SUFFIXES)


def read_table(
    path: Path, version: str | None, keys: list[str]
) -> tuple[pd.DataFrame, list[Problem]]:
    """The evaluations of a table, sorted by `keys`, with the columns of `Logs.frame`.

    A trial with a damaged row is left out whole, as a trial with a damaged file is.

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
    table, lines, cut = _load(path, problems)
    table = table.rename_columns([_ALIASES.get(name, name) for name in table.column_names])
    missing = [name for name in _REQUIRED if name not in table.column_names]
    if missing:
        raise UserError(f"{path}: missing columns {', '.join(missing)}")
    for name in _TRACK:
        tracks = pc.unique(table[name]).to_pylist() if name in table.column_names else []
        if len(tracks) > 1:
            several = ", ".join(sorted(map(str, tracks)))
            raise UserError(f"{path}: holds several tracks ({name}: {several}); give one of them")
    frame, wrong = _convert(table)
    whole = np.isfinite(frame[["study", "trial"]]).all(axis=1).to_numpy()
    damaged = {int(row): f"line {lines[row]}: {wrong[row]}" for row in wrong}
    if cut and len(frame):
        damaged.setdefault(len(frame) - 1, "the table is cut off within or after it")
    trial = frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    rows = np.array(sorted(damaged), dtype=int)
    for row in rows[_first(trial[rows])]:
        name = "{0}/study_{3:g}/{1}_{2}/trial_{4:g}".format(*frame.loc[row, keys])
        about = f"{name}: {damaged[row]}" if whole[row] else damaged[row]
        problems.append(Problem(path, f"{about}; left out"))
    use = ~np.isin(trial, trial[rows]) & whole
    use &= _known(frame[use], table, version, path, problems).reindex(frame.index, fill_value=False)
    frame = frame[use]
    frame = frame.astype(dict.fromkeys(_WHOLE, np.int64))
    return frame.sort_values(keys, kind="stable", ignore_index=True), problems


def _first(numbers: np.ndarray) -> np.ndarray:
    """Where each distinct number comes first."""
    return np.sort(np.unique(numbers, return_index=True)[1])


def _load(path: Path, problems: list[Problem]) -> tuple[pa.Table, np.ndarray, bool]:
    """The table, the line of the file of each row, and whether its end is missing."""
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path, use_threads=False)
            return table, np.arange(1, table.num_rows + 1), False
        content, cut = path.read_bytes(), False
        if path.suffix == ".gz":
            content, cut = _decompress(content)
        if not content.endswith(b"\n"):
            content, cut = content[: content.rfind(b"\n") + 1], True
        if not content.strip():
            raise UserError(f"{path} is empty")
        if cut:
            problems.append(Problem(path, "is truncated: the last line has no end"))
        try:
            content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            content = content.decode(errors="replace").encode()
            problems.append(Problem(path, f"line {line} is not text; its odd bytes are replaced"))
        return *_parse(content, path, problems), cut
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (pa.ArrowException, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _decompress(content: bytes) -> tuple[bytes, bool]:
    """Gzipped bytes, as far as they go, and whether their end is missing."""
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    text = decompressor.decompress(content)
    return text, not decompressor.eof


def _parse(content: bytes, path: Path, problems: list[Problem]) -> tuple[pa.Table, np.ndarray]:
    """A CSV table of texts; rows of another width than the header's are reported."""
    skipped: list[int] = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        skipped.append(row.number)
        width = f"line {row.number} has {row.actual_columns} of {row.expected_columns} columns"
        problems.append(Problem(path, f"{width}; left out"))
        return "skip"

    header = content.split(b"\n", 1)[0].decode("utf-8", "replace").strip().split(",")
    table = pyarrow.csv.read_csv(
        io.BytesIO(content),
        pyarrow.csv.ReadOptions(use_threads=False),
        pyarrow.csv.ParseOptions(invalid_row_handler=skip, ignore_empty_lines=False),
        pyarrow.csv.ConvertOptions(column_types={name.strip('"'): pa.string() for name in header}),
    )
    return table, np.setdiff1d(np.arange(2, table.num_rows + len(skipped) + 2), skipped)


def _convert(table: pa.Table) -> tuple[pd.DataFrame, dict[int, str]]:
    """The frame, all its numbers as float64, and what is wrong with which rows."""
    wrong: dict[int, str] = {}
    columns: dict[str, object] = {}
    for name in _TEXTS:
        known = name in table.column_names
        columns[name] = table[name].cast(pa.string()).fill_null("").to_pandas() if known else ""
    finished = True
    if "finished" in table.column_names:
        said = pc.utf8_lower(table["finished"].cast(pa.string()).fill_null(""))
        finished = pc.not_equal(said, "false").to_numpy()
    columns["finished"] = finished
    for name in _NUMBERS:
        columns[name] = np.nan
        if name in table.column_names:
            columns[name], texts = _numbers(table[name])
            wrong |= {row: f"{name} is {text[:40]!r}, not a number" for row, text in texts.items()}
    frame = pd.DataFrame(columns, index=range(table.num_rows))
    for name in (*_WHOLE, "score"):
        values = frame[name].to_numpy()
        kind = "number" if name == "score" else "whole number"
        fits = np.isfinite(values) & (values >= 0)
        fits &= (name == "score") | ((values == np.trunc(values)) & (values <= LARGEST_STEP))
        for row in np.flatnonzero(~fits):
            wrong.setdefault(int(row), f"{name} is {values[row]:g}, not a {kind} from 0 on")
    order = ["submission", "workload", "framework", "study", "trial", "hyperparameters", "finished"]
    return frame[[*order, *(name for name in _NUMBERS if name not in order)]], wrong


def _numbers(column: pa.ChunkedArray) -> tuple[np.ndarray, dict[int, str]]:
    """A column as float64 with NaN for empty cells, and the texts of cells that are no numbers."""
    if not pa.types.is_string(column.type):
        return column.cast(pa.float64()).to_numpy(), {}
    column = pc.utf8_trim_whitespace(column)
    column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    try:
        return column.cast(pa.float64()).to_numpy(), {}
    except pa.ArrowInvalid:
        values, wrong = np.full(len(column), np.nan), {}
    for row, text in enumerate(column.to_pylist()):
        try:
            values[row] = np.nan if text is None else float(text)
        except ValueError:
            wrong[row] = text
    return values, wrong


def _known(
    frame: pd.DataFrame, table: pa.Table, version: str | None, path: Path, problems: list[Problem]
) -> pd.Series:
    """Rows of workloads that are known, and measured by their metric; the others are reported."""
    known = registry.names(version=version)
    metrics = table["metric_name"].to_pandas() if "metric_name" in table.column_names else None
    use = pd.Series(True, index=frame.index)
    for name, rows in frame.groupby("workload").groups.items():
        if name not in known:
            use[rows] = False
            problems.append(Problem(path, f"unknown workload {name!r}; left out"))
        elif metrics is not None:
            metric = registry.facts(str(name), version).metric
            other = metrics[rows][metrics[rows].str.removeprefix("validation/") != metric]
            use[other.index] = False
            if len(other):
                reason = f"metric_name is {other.iloc[0]!r} instead of {metric!r}"
                reason = f"workload {name}: {reason} in {len(other)} rows; left out"
                problems.append(Problem(path, reason))
    return use
