"""Reads logs, a folder in the official AlgoPerf layout or a tidy table, into one tidy frame.

The layout is `SUBMISSION/study_K/WORKLOAD_FRAMEWORK/trial_I/eval_measurements.csv`. What cannot be
used is left out and reported with its path; it never stops the rest from being read.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import continuity, layout, log_cache, problem, targets, tidy_table, trial_files
from analysis.layout import LAYOUT, TrialFolder
from analysis.problem import Problem
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

# From how many trials on a bar says more than it disturbs.
_PROGRESS_FROM = 1000
_FILES_READ = {EVALUATIONS_FILE, HYPERPARAMETERS_FILE, STATUS_FILE, CHECKPOINT_FILE}
_READERS = [
    Path(str(module.__file__))
    for module in (continuity, layout, problem, targets, tidy_table, trial_files)
] + [Path(__file__)]


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
      problems: what was left out or is odd, one per file or trial.
    """

    frame: pd.DataFrame
    problems: list[Problem]


def read_logs(
    path: Path, version: str | None = None, *, ignore: Path | None = None, cache: Path | None = None
) -> Logs:
    """Reads every trial in a folder or in a table.

    Args:
      path: the folder that holds one folder per submission, or a tidy table as
        `analysis.tidy_table.read_table` takes it.
      version: of the benchmark whose metrics and targets hold, `v0.5` or `v0.6`; None means the
        newest. Stand-ins are the same whatever it is.
      ignore: a folder inside it that holds no logs, such as the report's own.
      cache: a folder, outside the logs or ignored, in which to keep what was read until a file
        changes. None keeps nothing.

    Raises:
      UserError: `path` is neither, `version` is unknown, or no trial is usable.
    """
    problems: list[Problem] = []
    trials: list[TrialFolder] = []
    if path.is_dir():
        trials = layout.find_trials(path, version, ignore, problems)
    elif not (path.is_file() and tidy_table.is_table(path)):
        what = "is no folder or table" if path.exists() else "does not exist"
        kinds = ", ".join(tidy_table.SUFFIXES)
        raise UserError(f"--logs={path} {what}; give a folder of logs, or one of {kinds}")
    fingerprint = _fingerprint(path, version, trials) if cache is not None else None
    known = None
    if cache is not None and fingerprint is not None:
        known = log_cache.load(cache, fingerprint)
    frame, found = known or _read(path, version, trials)
    if frame.empty:
        reasons = [*problems, *found]
        listed = "".join(f"; {reason}" for reason in reasons[:3])
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        expected = f" (expected {LAYOUT})" if path.is_dir() else ""
        raise UserError(f"no usable trial under {path}{expected}{listed}{more}")
    if cache is not None and fingerprint is not None and not known and not fingerprint.is_young:
        failed = log_cache.store(cache, fingerprint, frame, found)
        problems.extend([failed] if failed else [])
    return Logs(frame, problems + found)


def _fingerprint(
    path: Path, version: str | None, trials: Sequence[TrialFolder]
) -> log_cache.Fingerprint:
    """The state of every file that `_read` reads."""
    fingerprint = log_cache.Fingerprint(path, _READERS, version)
    if path.is_file():
        fingerprint.add(path.name, path.stat())
    for trial in trials:
        fingerprint.add_text(f"{trial.key} {trial.facts.metric} {trial.facts.validation_target}")
        with os.scandir(trial.folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name in _FILES_READ:
                    fingerprint.add(entry.path, entry.stat())
    return fingerprint


def _read(
    path: Path, version: str | None, trials: Sequence[TrialFolder]
) -> tuple[pd.DataFrame, list[Problem]]:
    """The frame, and what was odd about trials; `trials` are those of a folder."""
    problems: list[Problem] = []
    if path.is_file():
        frame, problems = tidy_table.read_table(path, version, TRIAL_KEYS)
        trial = frame.groupby(TRIAL_KEYS, sort=False).ngroup().to_numpy()
        keys = frame[TRIAL_KEYS].drop_duplicates().to_numpy()
        names = ["{0}/study_{3}/{1}_{2}/trial_{4}".format(*key) for key in keys]
        explained = np.zeros(len(names), dtype=bool)

        def locate(number: int, reason: str) -> Problem:
            return Problem(path, f"{names[number]}: {reason}")
    else:
        frame, trial, explained, folders = _read_folders(trials, problems)

        def locate(number: int, reason: str) -> Problem:
            return Problem(folders[number], reason)

    met = targets.meets_target(frame, version)
    keep, odd = continuity.mend(frame, trial, met, explained, locate)
    return frame if keep.all() else frame[keep].reset_index(drop=True), problems + odd


def _read_folders(
    trials: Sequence[TrialFolder], problems: list[Problem]
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, list[Path]]:
    """All evaluations, each one's trial, and of each trial whether its end is explained, and where.

    Trials are numbered from 0 on, those without evaluations left out.
    """
    about: dict[str, list[object]] = {name: [] for name in (*TRIAL_KEYS, *TRIAL_NOTES)}
    measured: dict[str, list[list[float]]] = {name: [] for name in MEASUREMENTS}
    explained, folders = [], []
    # Our own runner ends every trial with a status; the official one never writes any.
    status_is_due = any((trial.folder / STATUS_FILE).exists() for trial in trials)
    show = len(trials) >= _PROGRESS_FROM
    with progress.bar(len(trials), "reading logs", "trials") if show else nullcontext() as bar:
        for trial in trials:
            if bar is not None:
                bar.update()
            status, unfinished = _ending(trial.folder, status_is_due)
            evaluations = _evaluations(trial, status, problems)
            if evaluations is None:
                continue
            if unfinished is not None:
                problems.append(unfinished)
            notes = (_hyperparameters(trial, problems), unfinished is None)
            for name, value in zip(about, (*trial.key, *notes), strict=True):
                about[name].append(value)
            for name in MEASUREMENTS:
                measured[name].append(evaluations[name])
            explained.append(status is not None or unfinished is not None)
            folders.append(trial.folder)
    number = np.repeat(np.arange(len(folders)), [len(steps) for steps in measured["score"]])
    frame = pd.DataFrame(about).iloc[number]
    frame = frame.reset_index(drop=True).astype({"study": np.int64, "trial": np.int64})
    for name, parts in measured.items():
        kind = np.int64 if name == "global_step" else np.float64
        frame[name] = np.concatenate(
            [np.zeros(0, kind), *(np.asarray(part, kind) for part in parts)]
        )
    return frame, number, np.array(explained, dtype=bool), folders


def _hyperparameters(trial: TrialFolder, problems: list[Problem]) -> str:
    try:
        return read_hyperparameters(trial.folder)
    except DamagedError as error:
        path = trial.folder / HYPERPARAMETERS_FILE
        problems.append(Problem(path, f"{error}; hyperparameters unknown"))
        return ""


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
    trial: TrialFolder, status: Status | None, problems: list[Problem]
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
