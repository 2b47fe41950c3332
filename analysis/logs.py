"""Reads a folder of logs in the official AlgoPerf layout into one tidy frame.

The layout is `SUBMISSION/study_K/WORKLOAD_FRAMEWORK/trial_I/eval_measurements.csv`. What cannot be
used is left out and reported with its path; it never stops the rest from being read.
"""

import csv
import dataclasses
import math
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pandas as pd

from common import progress
from common.cli import UserError
from workloads import registry
from workloads.facts import WorkloadFacts

EVALUATIONS_FILE = "eval_measurements.csv"
LAYOUT = f"SUBMISSION/study_K/WORKLOAD_FRAMEWORK/trial_I/{EVALUATIONS_FILE}"
TRIAL_KEYS = ["submission", "workload", "framework", "study", "trial"]
MEASUREMENTS = [
    "global_step",
    "score",
    "cpu_seconds",
    "train_metric",
    "validation_metric",
    "test_metric",
]

# From how many files on a bar says more than it disturbs.
_PROGRESS_FROM = 2000

_STUDY = re.compile(r"study_(\d+)")
_WORKLOAD = re.compile(r"(.+)_(pytorch|jax)")
_TRIAL = re.compile(r"trial_(\d+)")


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something in a folder of logs that could not be used, or only in part."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class Logs:
    """The evaluations of all usable trials.

    Attributes:
      frame: one row per evaluation, sorted by trial, evaluations in the file's order. Columns:
        submission, workload, framework (str), study, trial (int64); global_step (int64), score
        (submission seconds), cpu_seconds (NaN where not logged), train_metric, validation_metric
        and test_metric (the workload's target metric on each split; NaN where not logged).
      problems: what was left out or is incomplete, in the order of the walk.
    """

    frame: pd.DataFrame
    problems: list[Problem]


@dataclasses.dataclass(frozen=True)
class _Trial:
    """One trial folder and what its path says of it."""

    submission: str
    facts: WorkloadFacts
    framework: str
    study: int
    trial: int
    folder: Path


class _DamagedError(ValueError):
    """A file of evaluations that cannot be trusted."""


def read_logs(directory: Path, ignore: Path | None = None) -> Logs:
    """Reads every trial under `directory`.

    Args:
      directory: the folder that holds one folder per submission.
      ignore: a folder inside it that holds no logs, such as the report's own.

    Raises:
      UserError: `directory` is no readable folder, or holds no usable trial.
    """
    if not directory.is_dir():
        raise UserError(f"--logs={directory} is not a folder")
    problems: list[Problem] = []
    try:
        trials = list(_find_trials(directory, ignore, problems))
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    columns: dict[str, list[object]] = {name: [] for name in (*TRIAL_KEYS, *MEASUREMENTS)}
    show = len(trials) >= _PROGRESS_FROM
    with progress.bar(len(trials), "reading logs", "trials") if show else nullcontext() as bar:
        for trial in trials:
            _read_trial(trial, columns, problems)
            if bar is not None:
                bar.update()
    if not columns["trial"]:
        listed = "".join(f"; {problem}" for problem in problems[:3])
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(f"no usable trial under {directory} (expected {LAYOUT}){listed}{more}")
    frame = pd.DataFrame(columns).sort_values(TRIAL_KEYS, kind="stable", ignore_index=True)
    return Logs(frame, problems)


def _folders(
    parent: Path, pattern: re.Pattern[str], what: str, problems: list[Problem]
) -> Iterator[tuple[Path, re.Match[str]]]:
    """Subfolders whose names match, in order of name; others are reported."""
    strays = []
    found = False
    for folder in sorted(parent.iterdir()):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        match = pattern.fullmatch(folder.name)
        if match is None:
            strays.append(Problem(folder, f"stray folder, expected {what}; left out"))
            continue
        found = True
        yield folder, match
    problems.extend(strays if found else [Problem(parent, f"holds no {what} folder; left out")])


def _find_trials(directory: Path, ignore: Path | None, problems: list[Problem]) -> Iterator[_Trial]:
    for entry in sorted(directory.iterdir()):
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        if ignore is not None and entry.resolve() in (ignore.resolve(), *ignore.resolve().parents):
            continue
        for study_folder, study in _folders(entry, _STUDY, "study_K", problems):
            for folder, name in _folders(study_folder, _WORKLOAD, "WORKLOAD_FRAMEWORK", problems):
                try:
                    facts = registry.facts(name[1])
                except UserError as error:
                    problems.append(Problem(folder, f"{error}; left out"))
                    continue
                for trial_folder, trial in _folders(folder, _TRIAL, "trial_I", problems):
                    yield _Trial(
                        entry.name, facts, name[2], int(study[1]), int(trial[1]), trial_folder
                    )


def _read_trial(trial: _Trial, columns: dict[str, list[object]], problems: list[Problem]) -> None:
    """Appends one trial's evaluations to `columns`, or the reason why not to `problems`."""
    path = trial.folder / EVALUATIONS_FILE
    if not path.exists():
        problems.append(Problem(trial.folder, f"no {EVALUATIONS_FILE}; left out"))
        return
    try:
        evaluations = read_evaluations(path, trial.facts.metric)
    except _DamagedError as error:
        problems.append(Problem(path, f"{error}; left out"))
        return
    count = len(evaluations["global_step"])
    for name, key in zip(
        TRIAL_KEYS,
        (trial.submission, trial.facts.name, trial.framework, trial.study, trial.trial),
        strict=True,
    ):
        columns[name].extend([key] * count)
    for name in MEASUREMENTS:
        columns[name].extend(evaluations[name])
    if (trial.folder / "checkpoint.pt").exists():
        problems.append(Problem(trial.folder, "unfinished trial; used as far as it got"))


def read_evaluations(path: Path, metric: str) -> dict[str, list[float]]:
    """The columns of one file of evaluations, by their names in `Logs.frame`.

    Args:
      path: an `eval_measurements.csv`.
      metric: the workload's metric, without its split.

    Raises:
      ValueError: the file is damaged; the message says how.
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
        raise _DamagedError(f"missing columns {', '.join(missing)}")
    columns: dict[str, list[float]] = {}
    for name, source in sources.items():
        if source not in header:
            columns[name] = [math.nan] * len(rows)
            continue
        index = header.index(source)
        columns[name] = [
            _number(row[index], source, line) for line, row in enumerate(rows, start=2)
        ]
    for name in ("global_step", "score"):
        for line, value in enumerate(columns[name], start=2):
            if not (math.isfinite(value) and value >= 0):
                raise _DamagedError(f"line {line}: {name} is {value}, not a number from 0 on")
    for line, value in enumerate(columns["global_step"], start=2):
        if value != int(value):
            raise _DamagedError(f"line {line}: global_step is {value}, not an integer")
    columns["global_step"] = [int(value) for value in columns["global_step"]]
    return columns


def _read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a CSV file, all rows as wide as the header."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise _DamagedError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _DamagedError("is not text") from error
    if not text.strip():
        raise _DamagedError("is empty")
    # Without the last newline the last number may have lost digits, and nothing else would show it.
    if not text.endswith("\n"):
        raise _DamagedError("is truncated: the last line has no end")
    try:
        header, *rows = csv.reader(text.splitlines())
    except csv.Error as error:
        raise _DamagedError(f"is not CSV: {error}") from error
    if not rows:
        raise _DamagedError("holds no evaluation")
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise _DamagedError(f"line {line} has {len(row)} of {len(header)} columns")
    return header, rows


def _number(cell: str, column: str, line: int) -> float:
    """The number in a cell; an empty cell is NaN, as pandas writes it."""
    if not cell.strip():
        return math.nan
    try:
        return float(cell)
    except ValueError:
        raise _DamagedError(f"line {line}: {column} is {cell[:40]!r}, not a number") from None
