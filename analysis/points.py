"""The points of a search space, each over its studies; a trial's number is the point's."""

import json
from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.scoring import CELL_KEYS, median


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
        median_steps=("steps", median),
        median_seconds=("seconds", median),
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
