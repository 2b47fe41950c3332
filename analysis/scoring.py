"""From evaluations to the benchmark's scores: per trial, per study, per workload, per submission.

The rules are those of the benchmark's scoring code (`scoring/performance_profile.py` of
mlcommons/algorithmic-efficiency at 2c90454f). Where its written rules differ, the code is the
default, because the published scores are its results; see `score_studies`.
"""

import dataclasses
import json
from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd

from analysis import dropout, evaluations, profiles
from analysis.logs import TRIAL_KEYS, TRIAL_NOTES
from workloads.rulesets import Ruleset

STUDY_KEYS = ["submission", "workload", "study"]
CELL_KEYS = ["submission", "workload"]

Rule = Literal["official", "fastest"]

# Among tied trials the official code takes the first as `os.listdir` has them, so its results
# depend on the file system. Each pick among tied trials in the published results (58 in v0.5, 4 in
# v0.6) follows this order, which is ext4's; higher numbers come behind it, in their own order.
LISTED = (5, 3, 4, 1, 2)


@dataclasses.dataclass(frozen=True)
class Profile:
    """Performance profiles of a pool of submissions, and the scores that they give.

    Attributes:
      rho: one row per tau of `profiles.TAU`, one column per submission: the share of base workloads
        on which the submission's time is at most tau times the fastest.
      scores: by submission, from 0 to 1: the mean of rho over tau.
      ratios: base workload by submission, as they enter rho; inf where missed.
    """

    rho: pd.DataFrame
    scores: pd.Series
    ratios: pd.DataFrame


def score_trials(frame: pd.DataFrame, version: str | None = None) -> pd.DataFrame:
    """Times to the validation target, one row per trial.

    A target is reached at the first evaluation that is as good or better. When it was really
    crossed is known to one evaluation period only: after the evaluation before that one.

    Args:
      frame: evaluations, as `analysis.logs.Logs.frame`.
      version: of the benchmark whose targets hold, as `workloads.registry.facts` takes it.

    Returns:
      TRIAL_KEYS; reached (bool); evaluations (how many there are); evaluation_period (mean seconds
      between them, NaN with one); evaluation (0-based index of the first that meets the target, -1
      if none does); steps, seconds at that evaluation (inf if none does); earliest_seconds (at the
      evaluation before, 0 if there is none; inf if the target was not reached); last_step,
      last_seconds at the end of the trial; steady_seconds_per_step (between the first evaluation
      and the last, so without compilation; with one evaluation, up to it, and NaN if that is at
      step 1); hyperparameters and finished, as in `frame`; cut (whether `--max_steps` ended the
      trial before it reached the target).
    """
    trial = frame.groupby(TRIAL_KEYS, sort=False).ngroup().to_numpy()
    first = np.flatnonzero(np.diff(trial, prepend=-1))
    count = np.diff(first, append=len(trial))
    last = first + count - 1
    met = evaluations.meets_target(evaluations.sort_keys(frame, version))
    met = np.where(met, np.arange(len(trial)), len(trial))
    hit = np.minimum.reduceat(met, first) if len(trial) else met
    reached = hit < len(trial)
    hit = np.where(reached, hit, first)
    table = frame.iloc[first][TRIAL_KEYS].reset_index(drop=True)
    table["reached"] = reached
    table["evaluations"] = count
    table["evaluation"] = np.where(reached, hit - first, -1)
    step, seconds = (frame[name].to_numpy(float) for name in ("global_step", "score"))
    gaps = (seconds[last] - seconds[first]) / np.maximum(count - 1, 1)
    table["evaluation_period"] = np.where(count > 1, gaps, np.nan)
    for name, values in (("steps", step), ("seconds", seconds)):
        table[name] = np.where(reached, values[hit], np.inf)
    earliest = np.where(hit > first, seconds[hit - 1], 0.0)
    table["earliest_seconds"] = np.where(reached, earliest, np.inf)
    table["last_step"] = frame["global_step"].to_numpy()[last]
    table["last_seconds"] = seconds[last]
    table["steady_seconds_per_step"] = _steady(step, seconds, first, last)
    for name in TRIAL_NOTES:
        table[name] = frame[name].to_numpy()[first]
    table["cut"] &= ~reached
    return table


def _steady(
    step: np.ndarray, seconds: np.ndarray, first: np.ndarray, last: np.ndarray
) -> np.ndarray:
    """Seconds per step of each trial once it runs."""
    steps, time = step[last] - step[first], seconds[last] - seconds[first]
    with_start = np.where(step[last] > 1, seconds[last] / np.maximum(step[last], 1), np.nan)
    return np.where(steps > 0, time / np.maximum(steps, 1), with_start)


def score_studies(trials: pd.DataFrame, rule: Rule = "official") -> pd.DataFrame:
    """What each study needed, by its best trial.

    Args:
      trials: as `score_trials` returns.
      rule: which trial is the best. `official`, as the benchmark's code has it: the one whose
        meeting evaluation has the smallest index, and among several the first in the order of
        LISTED. `fastest`, as its rules are written: the one with the least submission time.

    Returns:
      One row per study, sorted by STUDY_KEYS: those; reached (whether any trial did); trial (the
      best one, -1 if none reached the target); steps, seconds and earliest_seconds of
      that trial (inf if none); steady_seconds_per_step (median over trials); last_step,
      last_seconds (at the end of the shortest trial: the study needed at least as much if it
      misses); cut (whether none reached the target and some were cut).
    """
    rank = trials["trial"].map({trial: place for place, trial in enumerate(LISTED)})
    rank = rank.fillna(trials["trial"] + len(LISTED))
    by = {"official": "evaluation", "fastest": "seconds"}[rule]
    first = trials[by].where(trials["reached"], np.inf)
    picked = trials.assign(by=first, rank=rank).sort_values([*STUDY_KEYS, "by", "rank"])
    picked = picked.drop_duplicates(STUDY_KEYS)
    columns = ["reached", "trial", "steps", "seconds", "earliest_seconds"]
    studies = picked[[*STUDY_KEYS, *columns]].reset_index(drop=True)
    studies["trial"] = studies["trial"].where(studies["reached"], -1)
    counts = trials.groupby(STUDY_KEYS, as_index=False).agg(
        steady_seconds_per_step=("steady_seconds_per_step", "median"),
        last_step=("last_step", "min"),
        last_seconds=("last_seconds", "min"),
        cut=("cut", "any"),
    )
    studies = studies.merge(counts, on=STUDY_KEYS)
    return studies.assign(cut=studies["cut"] & ~studies["reached"])


def compare_rules(trials: pd.DataFrame) -> pd.DataFrame:
    """The studies whose time depends on the rule by which the best trial is picked.

    Args:
      trials: as `score_trials` returns.

    Returns:
      STUDY_KEYS; excess, by which share the official time is longer than the fastest.
    """
    official, fastest = score_studies(trials), score_studies(trials, "fastest")
    differing = official["seconds"] != fastest["seconds"]
    excess = official["seconds"][differing] / fastest["seconds"][differing] - 1
    return official.loc[differing, STUDY_KEYS].assign(excess=excess)


def time_to_target(studies: pd.DataFrame) -> pd.DataFrame:
    """Medians over the studies present of each submission on each workload.

    Args:
      studies: as `score_studies` returns.

    Returns:
      CELL_KEYS; studies, reached, cut (of them); best_trials (the trial picked in each study, `-`
      where missed); median_seconds, median_steps (with inf for a study that misses);
      earliest_seconds (the median of the studies' own: the true median lies after it);
      steady_seconds_per_step (median).
    """
    picked = studies["trial"].astype(str).where(studies["reached"], "-")
    return (
        studies.assign(picked=picked)
        .groupby(CELL_KEYS, as_index=False)
        .agg(
            studies=("study", "nunique"),
            reached=("reached", "sum"),
            cut=("cut", "sum"),
            best_trials=("picked", " ".join),
            median_seconds=("seconds", "median"),
            median_steps=("steps", "median"),
            earliest_seconds=("earliest_seconds", "median"),
            steady_seconds_per_step=("steady_seconds_per_step", "median"),
        )
    )


def score_workloads(trials: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Times to target, what was run for them, and ratios to a baseline.

    Args:
      trials: as `score_trials` returns.
      baseline: the submission to divide by; it may be absent.

    Returns:
      CELL_KEYS; points (distinct trial numbers), studies, runs (trials over all studies, points x
      studies if none is missing), unfinished (of the runs); the other columns of
      `time_to_target`; steps_ratio (of the medians), pace_ratio (of
      steady_seconds_per_step), steady_cost_ratio (of steady_seconds_per_step at one dropout rate,
      as `analysis.dropout.cost_ratios`; NaN where there is none in common). A steps
      ratio is inf where the submission misses and the baseline does not, NaN where the
      baseline misses or did not run.
    """
    runs = trials.groupby(CELL_KEYS, as_index=False).agg(
        points=("trial", "nunique"),
        studies=("study", "nunique"),
        runs=("trial", "size"),
        unfinished=("finished", lambda finished: int((~finished.astype(bool)).sum())),
    )
    cells = runs.merge(time_to_target(score_studies(trials)), on=[*CELL_KEYS, "studies"])
    for ratio, column in (
        ("steps_ratio", "median_steps"),
        ("pace_ratio", "steady_seconds_per_step"),
    ):
        reference = cells[cells["submission"] == baseline].set_index("workload")[column]
        divisor = cells["workload"].map(reference).astype(float)
        cells[ratio] = cells[column] / divisor.where(np.isfinite(divisor) & (divisor > 0))
    costs = dropout.cost_ratios(trials, baseline)
    cells["steady_cost_ratio"] = costs.reindex(
        pd.MultiIndex.from_frame(cells[CELL_KEYS])
    ).to_numpy()
    return cells


def score_points(
    trials: pd.DataFrame, frame: pd.DataFrame | None = None, version: str | None = None
) -> pd.DataFrame:
    """Each point of each entry over its studies; a trial's number is the point's.

    Args:
      trials: as `score_trials` returns.
      frame: their evaluations, as far as they are known.
      version: as for `score_trials`.

    Returns:
      entry, workload, trial, studies (in which the point ran), reached (studies in which it met the
      target), cut (in which it was cut before), median_steps, median_seconds (inf where the median
      study misses), best (whether it is the entry's best on the workload: the smallest
      median_steps, ties by median_seconds, then by trial; where every median misses, the most
      studies reached, then the best median of the best validation values, then the lowest trial),
      hyperparameters (compact JSON with sorted keys, empty where not logged; a list of the distinct
      ones where studies disagree).
    """
    grouped = trials.groupby([*CELL_KEYS, "trial"], as_index=False)
    points = grouped.agg(
        studies=("study", "nunique"),
        reached=("reached", "sum"),
        cut=("cut", "sum"),
        median_steps=("steps", "median"),
        median_seconds=("seconds", "median"),
        hyperparameters=("hyperparameters", _join_distinct),
    ).rename(columns={"submission": "entry"})
    missed = np.isinf(points["median_steps"])
    ranked = points.assign(rank=np.where(missed, -points["reached"], 0), nearest=0.0)
    if frame is not None and len(frame):
        keys = frame[TRIAL_KEYS].assign(key=evaluations.sort_keys(frame, version)["key"].to_numpy())
        nearest = keys.groupby(TRIAL_KEYS)["key"].min().groupby([*CELL_KEYS, "trial"]).median()
        named = pd.MultiIndex.from_frame(points[["entry", "workload", "trial"]])
        ranked["nearest"] = np.where(missed, nearest.reindex(named).to_numpy(), 0.0)
    order = ["median_steps", "median_seconds", "rank", "nearest", "trial"]
    ranked = ranked.sort_values(order)
    best = ranked.drop_duplicates(["entry", "workload"]).index
    hyperparameters = points.pop("hyperparameters")
    return points.assign(best=points.index.isin(best), hyperparameters=hyperparameters)


def distinct_hyperparameters(texts: Iterable[str]) -> list[str]:
    """The texts, JSON as in `analysis.logs.Logs.frame`, that differ in value; without empty ones.

    >>> distinct_hyperparameters(['{"a":1}', '', '{"a":1.0}', '{"a":2}'])
    ['{"a":1}', '{"a":2}']
    """
    distinct: list[str] = []
    for text in dict.fromkeys(texts):
        if text and all(json.loads(text) != json.loads(other) for other in distinct):
            distinct.append(text)
    return distinct


def _join_distinct(texts: Iterable[str]) -> str:
    distinct = distinct_hyperparameters(texts)
    return "".join(distinct) if len(distinct) < 2 else f"[{','.join(distinct)}]"


def times_table(cells: pd.DataFrame, column: str = "median_seconds") -> pd.DataFrame:
    """A column of a table of cells as workload x submission; NaN where there are no runs."""
    return cells.pivot(index="workload", columns="submission", values=column)


def performance_profile(times: pd.DataFrame, ruleset: Ruleset) -> Profile:
    """The profiles and scores of a pool of submissions, each relative to the pool's best.

    Args:
      times: workload x submission in seconds, as `times_table` returns: inf where the target was
        not reached, NaN where there are no runs, which counts as missed. Workloads that are not the
        ruleset's are left out.
      ruleset: the rules.
    """
    ratios = profiles.effective_ratios(times.to_numpy(float), list(times.index), ruleset)
    rho = profiles.profile(ratios)
    return Profile(
        rho=pd.DataFrame(rho, pd.Index(profiles.TAU, name="tau"), times.columns),
        scores=pd.Series(profiles.profile_area(rho), times.columns, name="score"),
        ratios=pd.DataFrame(
            ratios, pd.Index(ruleset.base_workloads, name="workload"), times.columns
        ),
    )
