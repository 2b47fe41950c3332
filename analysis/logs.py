"""Reads logs, a folder in the official AlgoPerf layout or a tidy table, into one tidy frame.

The layout is `SUBMISSION/study_K/WORKLOAD_FRAMEWORK/trial_I/eval_measurements.csv`. What cannot be
used is left out and reported with its path; it never stops the rest from being read.
"""

import dataclasses
import math
from collections.abc import Container, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import tidy_table, trial_files
from analysis.evaluations import Problem, meets_target, select_usable, sort_keys
from analysis.layout import LAYOUT, TrialFolder, TrialKey, find_trials
from analysis.run_facts import RunFacts, read_run_facts
from analysis.trial_files import Status
from common import progress
from common.cli import UserError
from scripts.local.metrics_log import EVALUATIONS, DamagedError
from scripts.local.trial import CHECKPOINT, FLAGS_GIVEN, HPARAMS, STATUS, was_evaluated

TRIAL_KEYS = ["submission", "workload", "framework", "study", "trial"]
TRIAL_NOTES = ["hyperparameters", "finished", "cut"]
MEASUREMENTS = ["global_step", "score", "validation_metric"]
# The number of trials from which on reading takes long enough for a progress bar.
_PROGRESS_FROM = 1000


@dataclasses.dataclass(frozen=True)
class Logs:
    """The evaluations of all usable trials.

    Attributes:
      frame: one row per evaluation, sorted by trial, evaluations in the file's order. Columns:
        submission, workload, framework (str), study, trial (int64); hyperparameters (compact JSON
        with sorted keys, empty where not logged), finished, cut (bool; whether it ended at
        `--max_steps`, before the workload's own steps); global_step (int64), score (submission
        seconds), validation_metric (the workload's; NaN where not logged, or impossible). A trial
        whose time was up before its first evaluation has one row, at its end, without a metric.
      problems: what was left out or is odd, one per file or trial.
      runs: by submission, workload, framework, study and trial what the log says of the run; empty
        for tables.
    """

    frame: pd.DataFrame
    problems: list[Problem]
    runs: Mapping[TrialKey, RunFacts] = dataclasses.field(default_factory=dict)

    def of(self, workloads: Container[str]) -> "Logs":
        """The logs of some workloads alone."""
        frame = self.frame[[name in workloads for name in self.frame["workload"]]]
        runs = {key: facts for key, facts in self.runs.items() if key[1] in workloads}
        return Logs(frame.reset_index(drop=True), self.problems, runs)


def read_logs(path: Path, version: str | None = None, *, ignore: Path | None = None) -> Logs:
    """Reads every trial in a folder or in a table.

    Args:
      path: the folder that holds one folder per submission, or a tidy table as
        `analysis.tidy_table.read_table` takes it.
      version: of the benchmark whose metrics and targets hold; None means the newest. Stand-ins are
        the same whatever it is.
      ignore: a folder inside it that holds no logs, such as the report's own.

    Raises:
      UserError: `path` is neither, `version` is unknown, or no trial is usable.
    """
    problems: list[Problem] = []
    runs: dict[TrialKey, RunFacts] = {}
    if path.is_dir():
        trials = find_trials(path, version, ignore, problems)
        frame, trial, explained, folders = _read_folders(trials, problems)
        runs = _read_runs(trials, frame, problems)

        def locate(number: int, reason: str) -> Problem:
            return Problem(folders[number], reason)
    elif path.is_file() and path.name.endswith(tidy_table.SUFFIXES):
        frame, problems = tidy_table.read_table(path, version, TRIAL_KEYS)
        trial = frame.groupby(TRIAL_KEYS, sort=False).ngroup().to_numpy()
        keys = frame[TRIAL_KEYS].drop_duplicates().to_numpy()
        names = ["{0}/study_{3}/{1}_{2}/trial_{4}".format(*key) for key in keys]
        explained = np.zeros(len(names), dtype=bool)

        def locate(number: int, reason: str) -> Problem:
            return Problem(path, f"{names[number]}: {reason}")
    else:
        reason = "is no folder or table" if path.exists() else "does not exist"
        kinds = ", ".join(tidy_table.SUFFIXES)
        raise UserError(f"--logs={path} {reason}; give a folder of logs, or one of {kinds}")
    keys = sort_keys(frame, version)
    met, impossible = meets_target(keys), keys["is_impossible"].to_numpy()
    usable, odd = select_usable(frame, trial, met, impossible, explained, locate)
    frame["validation_metric"] = frame["validation_metric"].mask(impossible)
    frame = frame[usable].reset_index(drop=True)
    problems += odd
    if frame.empty:
        listed = "".join(f"; {problem}" for problem in problems[:3])
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        expected = f" (expected {LAYOUT})" if path.is_dir() else ""
        raise UserError(f"no usable trial under {path}{expected}{listed}{more}")
    return Logs(frame, problems, runs)


def _read_folders(
    trials: Sequence[TrialFolder], problems: list[Problem]
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, list[Path]]:
    """Reads all trials that have evaluations, numbered from 0 on.

    Returns:
      the evaluations; int [rows], each one's trial; bool [trials], whether its end is explained;
      the trials' folders.
    """
    notes: dict[str, list[object]] = {name: [] for name in (*TRIAL_KEYS, *TRIAL_NOTES)}
    measured: dict[str, list[np.ndarray]] = {name: [] for name in MEASUREMENTS}
    explained, folders = [], []
    # Our own runner ends every trial with a status; the official one never writes any.
    status_is_due = any((trial.folder / STATUS).exists() for trial in trials)
    show = len(trials) >= _PROGRESS_FROM
    with progress.bar(len(trials), "reading logs", "trials") if show else nullcontext() as bar:
        for trial in trials:
            if bar is not None:
                bar.update()
            status, unfinished = _read_ending(trial.folder, status_is_due)
            evaluations = _read_evaluations(trial, status, problems)
            if evaluations is None:
                continue
            if unfinished is not None:
                problems.append(unfinished)
            point, cut = _read_hyperparameters(trial, problems), _was_cut(trial, status, problems)
            values = (*trial.key, point, unfinished is None, cut)
            for name, value in zip(notes, values, strict=True):
                notes[name].append(value)
            for name in MEASUREMENTS:
                measured[name].append(evaluations[name])
            explained.append(status is not None or unfinished is not None)
            folders.append(trial.folder)
    number = np.repeat(np.arange(len(folders)), [len(steps) for steps in measured["score"]])
    frame = pd.DataFrame(notes).iloc[number]
    frame = frame.reset_index(drop=True).astype({"study": np.int64, "trial": np.int64})
    for name, parts in measured.items():
        kind = np.int64 if name == "global_step" else np.float64
        columns = [np.asarray(part, kind) for part in parts]
        frame[name] = np.concatenate([np.zeros(0, kind), *columns])
    return frame, number, np.array(explained, dtype=bool), folders


def _read_runs(
    trials: Sequence[TrialFolder], frame: pd.DataFrame, problems: list[Problem]
) -> dict[TrialKey, RunFacts]:
    """What the logs of the trials in the frame say of their runs."""
    used = set(frame[TRIAL_KEYS].drop_duplicates().itertuples(index=False, name=None))
    runs = {}
    for trial in trials:
        if trial.key in used:
            try:
                runs[trial.key] = read_run_facts(trial.folder)
            except DamagedError as error:
                name, reason = str(error).split(" ", 1)
                path = trial.folder / name
                if all(problem.path != path for problem in problems):
                    problems.append(Problem(path, f"{reason}; facts of the run unknown"))
    return runs


def _read_hyperparameters(trial: TrialFolder, problems: list[Problem]) -> str:
    try:
        return trial_files.read_hyperparameters(trial.folder)
    except DamagedError as error:
        path = trial.folder / HPARAMS
        problems.append(Problem(path, f"{error}; hyperparameters unknown"))
        return ""


def _was_cut(trial: TrialFolder, status: Status | None, problems: list[Problem]) -> bool:
    try:
        return status is not None and trial_files.was_cut(trial.folder, status)
    except DamagedError as error:
        problems.append(Problem(trial.folder / FLAGS_GIVEN, f"{error}; taken as not cut"))
        return False


def _read_ending(folder: Path, status_is_due: bool) -> tuple[Status | None, Problem | None]:
    """A trial's status, and what makes the trial look unfinished, if anything does."""
    try:
        status = trial_files.read_status(folder)
    except DamagedError as error:
        reason = f"{error}; taken as an unfinished trial, used as far as it got"
        return None, Problem(folder / STATUS, reason)
    if status is not None:
        return status, None
    if (folder / CHECKPOINT).exists():
        return None, Problem(folder, "unfinished trial; used as far as it got")
    if status_is_due:
        why = f"no {STATUS}, unlike other trials here"
        return None, Problem(folder, f"unfinished trial ({why}); used as far as it got")
    return None, None


def _read_evaluations(
    trial: TrialFolder, status: Status | None, problems: list[Problem]
) -> dict[str, np.ndarray] | None:
    """The trial's MEASUREMENTS; None, and a problem, where there are none to use."""
    path = trial.folder / EVALUATIONS
    if path.exists():
        try:
            return trial_files.read_evaluations(path, trial.facts.metric, status)
        except DamagedError as error:
            problems.append(Problem(path, f"{error}; left out"))
            return None
    if status is not None and not was_evaluated(status):
        ending = {
            "global_step": status["global_step"],
            "score": status["accumulated_submission_time"],
        }
        return {name: np.array([ending.get(name, math.nan)]) for name in MEASUREMENTS}
    problems.append(Problem(trial.folder, f"no {EVALUATIONS}; left out"))
    return None
