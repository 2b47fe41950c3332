"""Costs of a step that differ by the optimizer alone: trials are compared at one dropout rate.

Dropout makes a step of most models dearer, and points differ in it. An optimizer is not slow
because its points drop units, nor fast because a rival's do.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import pandas as pd

_KEYS = ["submission", "workload"]
_PACE = "steady_seconds_per_step"
_UNKNOWN = (math.nan, math.nan)

# By submission and workload: the rates of its best trials, and of the baseline's.
Differences = Mapping[tuple[str, str], tuple[list[float], list[float]]]


def rate_of(hyperparameters: str) -> float:
    """The dropout rate of a point; NaN where it names none.

    Args:
      hyperparameters: as `analysis.logs.Logs.frame` has them.

    >>> rate_of('{"dropout_rate":0.1,"learning_rate":0.01}'), rate_of("")
    (0.1, nan)
    """
    point = json.loads(hyperparameters) if hyperparameters else None
    rate = point.get("dropout_rate") if isinstance(point, Mapping) else None
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        return math.nan
    return float(rate)


def rates_differ(hyperparameters: Iterable[str]) -> bool:
    """Whether points name more than one dropout rate.

    >>> rates_differ(['{"dropout_rate":0.1}', '{"dropout_rate":0}']), rates_differ(["", ""])
    (True, False)
    """
    return len(_distinct(map(rate_of, set(hyperparameters)))) > 1


def cost_ratios(trials: pd.DataFrame, baseline: str) -> pd.Series:
    """What a step costs relative to the baseline's, among trials of one dropout rate.

    Within a rate it is the ratio of the medians over studies of the medians over trials; among
    several rates that both ran, the median. Where the points of either name no rate at all, all
    trials of both are compared.

    Args:
      trials: as `analysis.scoring.score_trials` returns.
      baseline: the submission to divide by; it may be absent.

    Returns:
      The ratios by submission and workload; NaN where the two have no rate in common,
      or the baseline did not run.
    """
    rated = trials.assign(rate=trials["hyperparameters"].map(rate_of).astype(float))
    whole = _ratios(rated, _KEYS, baseline)
    at_one_rate = _ratios(rated, [*_KEYS, "rate"], baseline).reindex_like(whole)
    named = rated.groupby(_KEYS)["rate"].count().unstack("submission").gt(0).reindex_like(whole)
    both = named.to_numpy() & named.reindex(columns=[baseline], fill_value=False).to_numpy()
    return at_one_rate.where(both, whole).unstack()


def _ratios(rated: pd.DataFrame, keys: list[str], baseline: str) -> pd.DataFrame:
    """Paces over the baseline's, workload by submission; of those within `keys`, the median."""
    studies = rated.groupby([*keys, "study"])[_PACE].median()
    paces = studies.groupby(keys).median().unstack("submission")
    base = paces.reindex(columns=[baseline])[baseline]
    ratios = paces.div(base.where(np.isfinite(base) & (base > 0)), axis=0)
    return ratios.groupby("workload").median()


def differences(trials: pd.DataFrame, studies: pd.DataFrame, baseline: str | None) -> Differences:
    """Where the trials that an entry's times are of drop out otherwise than the baseline's.

    Args:
      trials, studies: as `analysis.scoring.score_trials` and `score_studies` return.
      baseline: the submission compared with; None gives no differences.

    Returns:
      By submission and workload, the sorted rates of its studies' best trials, and the baseline's;
      only where both reach the target in a study, both name rates and the rates differ.
    """
    keys = [*_KEYS, "study", "trial"]
    best = studies[studies["reached"]][keys].merge(trials[[*keys, "hyperparameters"]], on=keys)
    rates = {
        key: _distinct(map(rate_of, texts)) for key, texts in best.groupby(_KEYS)["hyperparameters"]
    }
    differing = {}
    for (submission, workload), own in rates.items():
        baseline_rates = rates.get((baseline, workload), [])
        if own and baseline_rates and own != baseline_rates:
            differing[str(submission), str(workload)] = own, baseline_rates
    return differing


def at_one_rate(
    ratios: pd.DataFrame, cells: pd.DataFrame, differing: Collection[tuple[str, str]]
) -> pd.DataFrame:
    """The ratios, with step costs at one dropout rate where those of the best trials are not.

    Args:
      ratios: as `analysis.statistics.Intervals.ratios`.
      cells: as `analysis.scoring.score_workloads` returns.
      differing: the submissions and workloads, as `differences` has them. Their step_cost_ratio
        becomes the cells' steady_cost_ratio, and its interval NaN.
    """
    costs = cells.set_index(_KEYS)["steady_cost_ratio"]
    table = ratios.copy()
    for place, submission, workload in table[_KEYS].itertuples():
        key = submission, workload
        if key in differing and not math.isnan(table.loc[place, "steps_ratio"]):
            table.loc[place, ["step_cost_ratio", "cost_low", "cost_high"]] = costs[key], *_UNKNOWN
    return table


def _distinct(rates: Iterable[float]) -> list[float]:
    return sorted({rate for rate in rates if not math.isnan(rate)})
