"""From evaluations to times: per trial, per study, per workload, and relative to a baseline.

A study's best trial is the one that meets the validation target in the least submission time, which
is the benchmark's written rule. The benchmark's code takes the trial with the smallest index of
the meeting evaluation instead; `evaluation` in the trials' table is that index.
"""

from typing import Any

import numpy as np
import pandas as pd

from analysis.logs import TRIAL_KEYS
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
      cpu_seconds NaN where not logged); last_step, last_seconds at the end of the trial.
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
    table = ends[[*TRIAL_KEYS, "last_step", "last_seconds", "last_cpu"]].merge(
        hits[[*TRIAL_KEYS, "evaluation", *times]], on=TRIAL_KEYS, how="left"
    )
    reached = table["evaluation"].notna()
    for column in times:
        table[column] = table[column].astype(float).where(reached, np.inf)
    table["cpu_seconds"] = table["cpu_seconds"].where(table["last_cpu"].notna(), np.nan)
    table["evaluation"] = table["evaluation"].fillna(-1).astype(int)
    table["reached"] = reached
    return table[[*TRIAL_KEYS, "reached", "evaluation", *times, "last_step", "last_seconds"]]


def score_studies(trials: pd.DataFrame) -> pd.DataFrame:
    """The best trial of each study: least seconds, then fewest steps, then the lowest number.

    Args:
      trials: as `score_trials` returns.

    Returns:
      The rows of the best trials, sorted by STUDY_KEYS. In a study that misses the target the
      lowest trial stands, with infinite times.
    """
    best = trials.sort_values(["seconds", "steps", "trial"], kind="stable")
    return best.drop_duplicates(STUDY_KEYS).sort_values(STUDY_KEYS, ignore_index=True)


def score_points(trials: pd.DataFrame) -> pd.DataFrame:
    """Each point of each entry over its studies; a trial's number is the point's.

    Args:
      trials: as `score_trials` returns.

    Returns:
      entry, workload, trial, studies (in which the point ran), reached (studies in which it met the
      target), median_steps, median_seconds (inf where the median study misses), best (whether it is
      the entry's best on the workload: the smallest median_steps, ties by median_seconds, then by
      trial; where every median misses, the most studies reached, then the lowest trial).
    """
    grouped = trials.groupby([*CELL_KEYS, "trial"], as_index=False)
    points = grouped.agg(
        studies=("study", "nunique"),
        reached=("reached", "sum"),
        median_steps=("steps", _median),
        median_seconds=("seconds", _median),
    ).rename(columns={"submission": "entry"})
    missed = np.isinf(points["median_steps"])
    ranked = points.assign(rank=np.where(missed, -points["reached"], 0))
    ranked = ranked.sort_values(["median_steps", "median_seconds", "rank", "trial"], kind="stable")
    best = ranked.drop_duplicates(["entry", "workload"]).index
    return points.assign(best=points.index.isin(best))


def score_workloads(trials: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Medians over studies of each submission on each workload, and ratios to the baseline.

    Args:
      trials: as `score_trials` returns.
      baseline: the submission to divide by; it may be absent.

    Returns:
      submission, workload, studies, reached (studies that met the target), best_trials (one number
      per study, `-` where missed), median_steps, median_seconds, median_cpu_seconds (inf where the
      median study misses), seconds_per_step, steps_ratio, seconds_ratio, step_cost_ratio.
      seconds_per_step is median_seconds / median_steps, so that the ratios multiply exactly; where
      the median misses, it is the median over all trials of their whole length. A steps or seconds
      ratio is inf where the submission misses and the baseline does not, NaN where the baseline
      misses or did not run.
    """
    table = score_studies(trials)
    table["pick"] = table["trial"].astype(str).where(table["reached"], "-")
    cells = table.groupby(CELL_KEYS).agg(
        studies=("study", "size"),
        reached=("reached", "sum"),
        best_trials=("pick", " ".join),
        median_steps=("steps", _median),
        median_seconds=("seconds", _median),
        median_cpu_seconds=("cpu_seconds", _median),
    )
    whole = (trials["last_seconds"] / trials["last_step"].clip(lower=1)).groupby(
        [trials[key] for key in CELL_KEYS]
    )
    at_target = cells["median_seconds"] / cells["median_steps"].clip(lower=1)
    hit = np.isfinite(cells["median_steps"])
    cells["seconds_per_step"] = at_target.where(hit, whole.median())
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
