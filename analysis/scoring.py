"""From evaluations to times: per trial, per study, per workload, and relative to a baseline.

A study's steps, seconds and CPU seconds are each the least over its trials that meet the validation
target, so one trial may give the steps and another the seconds: a comparison in steps then never
depends on the clock. Least submission time is the benchmark's written rule; its code takes the
trial with the smallest index of the meeting evaluation instead, which is `evaluation` in the
trials' table.
"""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from analysis.logs import TRIAL_KEYS, TRIAL_NOTES
from workloads import registry

STUDY_KEYS = ["submission", "workload", "study"]
CELL_KEYS = ["submission", "workload"]


def score_trials(frame: pd.DataFrame) -> pd.DataFrame:
    """Times to the validation target, one row per trial.

    Args:
      frame: evaluations, as `analysis.logs.Logs.frame`.

    Returns:
      TRIAL_KEYS; reached (bool); evaluation (0-based index of the first evaluation that meets the
      target, -1 if none does); steps, seconds, cpu_seconds at that evaluation (inf if none does,
      cpu_seconds NaN where not logged); last_step, last_seconds at the end of the trial;
      hyperparameters and finished, as in `frame`.
    """
    met = np.zeros(len(frame), dtype=bool)
    for workload, rows in frame.groupby("workload", sort=False):
        facts = registry.facts(str(workload))
        target = facts.validation_target
        met[rows.index] = [facts.meets(value, target) for value in rows["validation_metric"]]
    numbered = frame.assign(evaluation=frame.groupby(TRIAL_KEYS).cumcount())
    hits = numbered[met].drop_duplicates(TRIAL_KEYS)
    hits = hits.rename(columns={"global_step": "steps", "score": "seconds"})
    times = ["steps", "seconds", "cpu_seconds"]
    ends = frame.drop_duplicates(TRIAL_KEYS, keep="last").rename(
        columns={"global_step": "last_step", "score": "last_seconds", "cpu_seconds": "last_cpu"}
    )
    table = ends[[*TRIAL_KEYS, "last_step", "last_seconds", "last_cpu", *TRIAL_NOTES]].merge(
        hits[[*TRIAL_KEYS, "evaluation", *times]], on=TRIAL_KEYS, how="left"
    )
    reached = table["evaluation"].notna()
    for column in times:
        table[column] = table[column].astype(float).where(reached, np.inf)
    logged = table.groupby(CELL_KEYS)["last_cpu"].transform("count") > 0
    table["cpu_seconds"] = table["cpu_seconds"].where(reached | logged, np.nan)
    table["evaluation"] = table["evaluation"].fillna(-1).astype(int)
    table["reached"] = reached
    ending = ["last_step", "last_seconds", *TRIAL_NOTES]
    return table[[*TRIAL_KEYS, "reached", "evaluation", *times, *ending]]


def score_studies(trials: pd.DataFrame) -> pd.DataFrame:
    """What each study needed: the fewest steps and the least seconds, each over all its trials.

    Args:
      trials: as `score_trials` returns.

    Returns:
      One row per study, sorted by STUDY_KEYS: those; reached (whether any trial did); steps,
      seconds, cpu_seconds (each the least over the trials that met the target; inf if none did,
      cpu_seconds NaN where none of those logged it); best_trial (that with fewest steps, then least
      seconds, then the lowest number, as `score_points` picks; the lowest number in a study that
      misses); last_step, last_seconds (at the end of the shortest trial: the study needed at least
      as much if it misses).
    """
    studies = trials.groupby(STUDY_KEYS, as_index=False).agg(
        reached=("reached", "any"),
        steps=("steps", "min"),
        seconds=("seconds", "min"),
        cpu_seconds=("cpu_seconds", "min"),
        last_step=("last_step", "min"),
        last_seconds=("last_seconds", "min"),
    )
    # Trials that missed are infinite; they say nothing of what those that met the target took.
    unknown = studies["reached"] & np.isinf(studies["cpu_seconds"])
    studies["cpu_seconds"] = studies["cpu_seconds"].mask(unknown)
    best = trials.sort_values(["steps", "seconds", "trial"], kind="stable")
    best = best.drop_duplicates(STUDY_KEYS).rename(columns={"trial": "best_trial"})
    return studies.merge(best[[*STUDY_KEYS, "best_trial"]], on=STUDY_KEYS)


def score_points(trials: pd.DataFrame) -> pd.DataFrame:
    """Each point of each entry over its studies; a trial's number is the point's.

    Args:
      trials: as `score_trials` returns.

    Returns:
      entry, workload, trial, studies (in which the point ran), reached (studies in which it met the
      target), median_steps, median_seconds (inf where the median study misses), best (whether it is
      the entry's best on the workload: the smallest median_steps, ties by median_seconds, then by
      trial; where every median misses, the most studies reached, then the lowest trial),
      hyperparameters (compact JSON with sorted keys, empty where not logged; a list of the distinct
      ones where studies disagree).
    """
    grouped = trials.groupby([*CELL_KEYS, "trial"], as_index=False)
    points = grouped.agg(
        studies=("study", "nunique"),
        reached=("reached", "sum"),
        median_steps=("steps", _median),
        median_seconds=("seconds", _median),
        hyperparameters=("hyperparameters", _shared),
    ).rename(columns={"submission": "entry"})
    missed = np.isinf(points["median_steps"])
    ranked = points.assign(rank=np.where(missed, -points["reached"], 0))
    ranked = ranked.sort_values(["median_steps", "median_seconds", "rank", "trial"], kind="stable")
    best = ranked.drop_duplicates(["entry", "workload"]).index
    hyperparameters = points.pop("hyperparameters")
    return points.assign(best=points.index.isin(best), hyperparameters=hyperparameters)


def distinct_hyperparameters(texts: Iterable[str]) -> list[str]:
    """Those of `texts`, JSON as in `Logs.frame`, that differ in value; empty ones are unknown.

    >>> distinct_hyperparameters(['{"a":1}', '', '{"a":1.0}', '{"a":2}'])
    ['{"a":1}', '{"a":2}']
    """
    distinct: list[str] = []
    for text in dict.fromkeys(texts):
        if text and all(json.loads(text) != json.loads(other) for other in distinct):
            distinct.append(text)
    return distinct


def _shared(texts: Iterable[str]) -> str:
    distinct = distinct_hyperparameters(texts)
    return "".join(distinct) if len(distinct) < 2 else f"[{','.join(distinct)}]"


def score_workloads(trials: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Medians over studies of each submission on each workload, and ratios to the baseline.

    Args:
      trials: as `score_trials` returns.
      baseline: the submission to divide by; it may be absent.

    Returns:
      submission, workload; points (distinct trial numbers), studies, runs (trials over all studies,
      points x studies if none is missing), unfinished (of the runs), reached (studies that met the
      target), best_trials (`best_trial` of each study, `-` where missed); median_steps, min_steps,
      max_steps, median_seconds, min_seconds, max_seconds, median_cpu_seconds (over studies, with
      inf for a study that misses); seconds_per_step (median over all runs in their whole length);
      steps_ratio, seconds_ratio (of the medians), step_cost_ratio (of seconds_per_step). As the
      medians of steps and seconds may come from different trials, the seconds ratio is only about
      the product of the other two. A steps or seconds ratio is inf where the submission misses and
      the baseline does not, NaN where the baseline misses or did not run.
    """
    table = score_studies(trials)
    table["pick"] = table["best_trial"].astype(str).where(table["reached"], "-")
    # The order here is the order of columns in the table.
    runs = trials.groupby(CELL_KEYS).agg(
        points=("trial", "nunique"),
        studies=("study", "nunique"),
        runs=("trial", "size"),
        unfinished=("finished", lambda finished: int((~finished.astype(bool)).sum())),
    )
    times = table.groupby(CELL_KEYS).agg(
        reached=("reached", "sum"),
        best_trials=("pick", " ".join),
        median_steps=("steps", _median),
        min_steps=("steps", "min"),
        max_steps=("steps", "max"),
        median_seconds=("seconds", _median),
        min_seconds=("seconds", "min"),
        max_seconds=("seconds", "max"),
        median_cpu_seconds=("cpu_seconds", _median),
    )
    cells = runs.join(times)
    whole = trials["last_seconds"] / trials["last_step"].clip(lower=1)
    cells["seconds_per_step"] = whole.groupby([trials[key] for key in CELL_KEYS]).median()
    cells = cells.reset_index()
    for ratio, column in (
        ("steps_ratio", "median_steps"),
        ("seconds_ratio", "median_seconds"),
        ("step_cost_ratio", "seconds_per_step"),
    ):
        reference = cells[cells["submission"] == baseline].set_index("workload")[column]
        divisor = cells["workload"].map(reference).astype(float)
        cells[ratio] = cells[column] / divisor.where(np.isfinite(divisor) & (divisor > 0))
    return cells


def _median(values: Any) -> float:
    """A median that infinite and missing values take part in."""
    return float(np.median(np.asarray(values, dtype=float)))
