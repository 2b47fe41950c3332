"""Reads a folder of logs in the official AlgoPerf layout into one tidy frame.

The layout is `SUBMISSION/study_K/WORKLOAD_FRAMEWORK/trial_I/eval_measurements.csv`. What cannot be
used is left out and reported with its path; it never stops the rest from being read.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pandas as pd

from analysis.trial_files import (
    CHECKPOINT_FILE,
    EVALUATIONS_FILE,
    HYPERPARAMETERS_FILE,
    STATUS_FILE,
    DamagedError,
    Status,
    read_evaluations,
    read_hyperparameters,
    read_status,
)
from common import progress
from common.cli import UserError
from workloads import registry
from workloads.facts import WorkloadFacts

LAYOUT = f"SUBMISSION/study_K/WORKLOAD_FRAMEWORK/trial_I/{EVALUATIONS_FILE}"
TRIAL_KEYS = ["submission", "workload", "framework", "study", "trial"]
TRIAL_NOTES = ["hyperparameters", "finished"]
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
        submission, workload, framework (str), study, trial (int64); hyperparameters (compact JSON
        with sorted keys, empty where not logged), finished (bool); global_step (int64), score
        (submission seconds), cpu_seconds (NaN where not logged), train_metric, validation_metric
        and test_metric (the workload's target metric on each split; NaN where not logged). A trial
        whose time was up before its first evaluation has one row, at its end, without metrics.
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
    names = (*TRIAL_KEYS, *TRIAL_NOTES, *MEASUREMENTS)
    columns: dict[str, list[object]] = {name: [] for name in names}
    # Our own runner ends every trial with a status; the official one never writes any.
    status_is_due = any((trial.folder / STATUS_FILE).exists() for trial in trials)
    show = len(trials) >= _PROGRESS_FROM
    with progress.bar(len(trials), "reading logs", "trials") if show else nullcontext() as bar:
        for trial in trials:
            _read_trial(trial, status_is_due, columns, problems)
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


def _read_trial(
    trial: _Trial, status_is_due: bool, columns: dict[str, list[object]], problems: list[Problem]
) -> None:
    """Appends one trial's evaluations to `columns`, or the reason why not to `problems`."""
    status, unfinished = _ending(trial.folder, status_is_due)
    evaluations = _evaluations(trial, status, problems)
    if evaluations is None:
        return
    if unfinished is not None:
        problems.append(unfinished)
    hyperparameters = ""
    try:
        hyperparameters = read_hyperparameters(trial.folder)
    except DamagedError as error:
        path = trial.folder / HYPERPARAMETERS_FILE
        problems.append(Problem(path, f"{error}; hyperparameters unknown"))
    about = (
        *(trial.submission, trial.facts.name, trial.framework, trial.study, trial.trial),
        *(hyperparameters, unfinished is None),
    )
    count = len(evaluations["global_step"])
    for name, value in zip((*TRIAL_KEYS, *TRIAL_NOTES), about, strict=True):
        columns[name].extend([value] * count)
    for name in MEASUREMENTS:
        columns[name].extend(evaluations[name])


def _ending(folder: Path, status_is_due: bool) -> tuple[Status | None, Problem | None]:
    """How a trial says that it ended, and what makes it look unfinished, if anything does."""
    try:
        status = read_status(folder)
    except DamagedError as error:
        reason = f"{error}; taken as an unfinished trial, used as far as it got"
        return None, Problem(folder / STATUS_FILE, reason)
    if status is not None:
        return status, None
    if (folder / CHECKPOINT_FILE).exists():
        return None, Problem(folder, "unfinished trial; used as far as it got")
    if status_is_due:
        why = f"no {STATUS_FILE}, unlike other trials here"
        return None, Problem(folder, f"unfinished trial ({why}); used as far as it got")
    return None, None


def _evaluations(
    trial: _Trial, status: Status | None, problems: list[Problem]
) -> dict[str, list[float]] | None:
    """The trial's MEASUREMENTS; None, and a problem, where there are none to use."""
    path = trial.folder / EVALUATIONS_FILE
    if path.exists():
        try:
            return read_evaluations(path, trial.facts.metric)
        except DamagedError as error:
            problems.append(Problem(path, f"{error}; left out"))
            return None
    if status is not None and status.reason == "time":
        unknown: dict[str, list[float]] = {name: [math.nan] for name in MEASUREMENTS}
        return unknown | {"global_step": [status.global_step], "score": [status.seconds]}
    problems.append(Problem(trial.folder, f"no {EVALUATIONS_FILE}; left out"))
    return None
