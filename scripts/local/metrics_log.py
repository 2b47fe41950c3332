"""A trial's CSV files: kept whole in memory, written as whole files between steps."""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import files
from common.cli import UserError

MEASUREMENTS = "measurements.csv"
EVALUATIONS = "eval_measurements.csv"

Row = dict[str, float]


class DamagedError(ValueError):
    """A file that cannot be trusted; the message says why, without the path."""


class MetricsLog:
    """The `workload.metrics_logger` of submissions, and the log of evaluations.

    Appending only buffers, for it happens inside timed steps. `write` replaces both files by the
    buffers, so files that ran ahead of a checkpoint agree with it again after a resume.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.preemption_count = 0
        self._measurements: list[Row] = []
        self._evaluations: list[Row] = []

    def append_scalar_metrics(
        self, metrics: Mapping[str, Any], global_step: int, is_eval: bool = False
    ) -> None:
        """Buffers one row; values are numbers or one-element arrays and tensors."""
        row = {name: _number(value) for name, value in metrics.items()}
        row.update(global_step=int(global_step), preemption_count=self.preemption_count)
        self._measurements.append(row)
        if is_eval:
            self._evaluations.append(row)

    def write(self) -> None:
        """Replaces both CSV files, atomically; a file without rows is removed."""
        for name, rows in ((MEASUREMENTS, self._measurements), (EVALUATIONS, self._evaluations)):
            if rows:
                write_csv(self.directory / name, rows)
            else:
                (self.directory / name).unlink(missing_ok=True)

    def state_dict(self) -> dict[str, list[Row]]:
        """The buffered rows."""
        return {"measurements": list(self._measurements), "evaluations": list(self._evaluations)}

    def load_state_dict(self, state: Mapping[str, list[Row]]) -> None:
        """Replaces the buffers."""
        self._measurements = list(state["measurements"])
        self._evaluations = list(state["evaluations"])


def _number(value: Any) -> float:
    if hasattr(value, "item"):
        value = value.item()
    return value if isinstance(value, int) else float(value)


def write_csv(
    path: Path, rows: Sequence[Mapping[str, Any]], first_columns: Sequence[str] = ()
) -> None:
    """Writes rows atomically; `first_columns`, then the rest sorted; what a row lacks is empty."""
    rest = {name for row in rows for name in row}.difference(first_columns)
    with files.atomic_open(path) as stream:
        writer = csv.DictWriter(stream, [*first_columns, *sorted(rest)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def split_rows(content: bytes) -> tuple[list[str], list[list[str]], list[int]]:
    """Splits CSV, of which pandas would fill up rows that are too short in silence.

    Returns:
      The header, the rows, and the line of each.

    Raises:
      DamagedError: it is no CSV, or is cut off.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedError("is not text") from error
    if not text.strip():
        raise DamagedError("is empty")
    # Without the last newline the last number may have lost digits, and nothing else would show it.
    if not text.endswith("\n"):
        raise DamagedError("is truncated: the last line has no end")
    rows, lines = [], []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader)
        for row in reader:
            if len(row) != len(header):
                width = f"{len(row)} of {len(header)} columns"
                raise DamagedError(f"line {reader.line_num} has {width}")
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DamagedError(f"is not CSV: line {reader.line_num}: {error}") from error
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise DamagedError(f"has column {twice[0]!r} twice")
    return header, rows, lines


def read_csv(path: Path, required: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with a header; UserError naming the path if it is damaged."""
    try:
        columns, rows, _ = split_rows(files.read_bytes(path))
    except DamagedError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if missing := [name for name in required if name not in columns]:
        raise UserError(f"{path} is damaged or no such table: it lacks column {missing[0]!r}")
    return [dict(zip(columns, row, strict=True)) for row in rows]


def read_evaluations(directory: Path, metrics: Sequence[str] = ()) -> list[Row]:
    """A trial's evaluations, in order of `global_step`.

    UserError if the file is damaged or lacks a column of `metrics`.
    """
    path = directory / EVALUATIONS
    rows = []
    for index, row in enumerate(read_csv(path, ["global_step", "score", *metrics]), start=2):
        try:
            rows.append({name: float(value) for name, value in row.items()})
        except ValueError as error:
            raise UserError(f"{path} is damaged: line {index}: {error}") from error
    steps = [row["global_step"] for row in rows]
    if not all(step.is_integer() for step in steps):
        raise UserError(f"{path} is damaged: its global_step is not always a whole number")
    if not steps or any(later <= earlier for earlier, later in itertools.pairwise(steps)):
        raise UserError(f"{path} is damaged: its global_step does not increase")
    return rows


def lost_rows(steps: Sequence[float], status: Mapping[str, Any]) -> str:
    """What is missing at the end of a table of evaluations that is cut between two lines.

    Args:
      steps: `global_step` of each row.
      status: of the finished trial, as `trial.read_status` returns it.

    >>> ended = {"reason": "steps", "global_step": 60}
    >>> lost_rows([20, 40], ended), lost_rows([20, 40, 60], ended)
    ("ends at step 40, before the trial's last step 60: rows are lost", '')
    >>> lost_rows([20, 40], {"reason": "time", "global_step": 55, "evaluations": 3})
    "holds 2 of the trial's 3 evaluations: rows are lost"
    """
    count, last = status.get("evaluations"), status["global_step"]
    if count is not None and len(steps) < count:
        return f"holds {len(steps)} of the trial's {count} evaluations: rows are lost"
    # When time is up, a trial ends without another evaluation; the official runner never has one.
    if count is None and status["reason"] != "time" and steps[-1] < last:
        return f"ends at step {steps[-1]:g}, before the trial's last step {last}: rows are lost"
    return ""
