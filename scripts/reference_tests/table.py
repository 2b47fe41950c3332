"""reference_tests.csv and reference_tests.md: what has been run, kept over several invocations."""

import csv
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from common import documents, files
from common.cli import UserError
from scripts.local.metrics_log import write_csv

NAME = "reference_tests"
_SOURCES = {"repository": "", "package": ", packaged"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One workload with one entry.

    Attributes:
      verdict: "passed", "failed", "stopped" at a limit, or "not run".
      seconds, peak_gib: empty if it was not run.
      reason: the error, or why it cannot run here.
      test: the test's file name.
      fingerprint: hash of what the result follows from.
    """

    workload: str
    entry: str
    source: str
    verdict: str
    seconds: str
    peak_gib: str
    batch_size: str
    test: str
    reason: str
    log: str
    fingerprint: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is a result of; a later one takes its place."""
        return self.workload, self.entry, self.source


_COLUMNS = [field.name for field in dataclasses.fields(Row)]


def read(output: Path) -> dict[tuple[str, str, str], Row]:
    """The rows of an earlier invocation, none if there was none; UserError if it is damaged."""
    path = output / f"{NAME}.csv"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames != _COLUMNS:
            raise UserError(f"{path} has other columns than {','.join(_COLUMNS)}; move it away")
        rows = [Row(**row) for row in reader]
    return {row.key: row for row in rows}


def write(output: Path, rows: Mapping[tuple[str, str, str], Row], order: Iterable[str]) -> None:
    """Writes both files; workloads in `order`, those that are not in it after them by name."""
    rank = {name: number for number, name in enumerate(order)}
    kept = sorted(
        rows.values(),
        key=lambda row: (rank.get(row.workload, len(rank)), row.workload, row.source, row.entry),
    )
    write_csv(output / f"{NAME}.csv", [dataclasses.asdict(row) for row in kept], _COLUMNS)
    files.write_text(output / f"{NAME}.md", _page(kept))


def _page(rows: list[Row]) -> str:
    columns = sorted({(row.source, row.entry) for row in rows}, key=lambda pair: pair[::-1])
    notes: list[str] = []
    body = []
    for workload in dict.fromkeys(row.workload for row in rows):
        cells = {(row.source, row.entry): row for row in rows if row.workload == workload}
        batch = next(iter(cells.values())).batch_size
        texts = [_cell(cells[key], notes) if key in cells else "" for key in columns]
        body.append([workload, batch, *texts])
    headers = ["workload", "batch", *(f"{entry}{_SOURCES[source]}" for source, entry in columns)]
    table = documents.table(body, headers)
    lines = [f"{number}. {note}" for number, note in enumerate(notes, start=1)]
    text = (
        "# The benchmark's reference tests\n\n"
        "Each runs the real model on made-up data: one training step and two evaluations. Seconds "
        "from the process's start, imports among them; memory is the peak of the process and all "
        "that it starts. Made by `python -m scripts.reference_tests`; manifest.json says where.\n"
    )
    return "\n".join([text, table, *(["", *lines] if lines else []), ""])


def _cell(row: Row, notes: list[str]) -> str:
    remarks = [row.reason] if row.reason else []
    if row.test and row.test != "reference_algorithm_tests.py":
        remarks.append(f"Run through {row.test} in place of the benchmark's own file.")
    for remark in remarks:
        if remark not in notes:
            notes.append(remark)
    marks = "".join(f" [{notes.index(remark) + 1}]" for remark in remarks)
    if row.verdict == "passed":
        return f"OK {row.seconds} s, {row.peak_gib} GiB{marks}"
    return f"{row.verdict}{marks}"
