"""Every submission's time or steps to target relative to the baseline's, ready to draw."""

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.judgement import Judgement

# How many steps or seconds a study that misses has needed at least.
_LAST = {"steps": "last_step", "seconds": "last_seconds"}
COLUMNS = (
    *("workload", "submission", "kind", "ratio", "low", "high", "earliest", "latest", "points"),
    "studies",
)


def relative(judged: Judgement, column: str) -> pd.DataFrame:
    """Ratios to the baseline on every workload that it and others have run.

    Args:
      judged: with a baseline.
      column: `steps` or `seconds`.

    Returns:
      One row per workload and submission, in the order of `judged`: workload, submission; kind:
      `ratio`, `bound` (the baseline's median study misses, so the ratio is to what its shortest
      trials ran for, and is an upper bound), `missed` (the submission's median study does), or
      `other` (its logs count steps otherwise);
      ratio; low, high (its interval, NaN for a bound or from one study); earliest, latest (between
      which it is for all that evaluation periods say; NaN in steps and for a bound); points (each
      study's ratio, inf where missed); studies.
    """
    cells = {(row.workload, row.submission): row for row in judged.cells.itertuples()}
    known = {(row.workload, row.submission): row for row in judged.intervals.ratios.itertuples()}
    studies = dict(list(judged.studies.groupby(["workload", "submission"])))
    rows: list[tuple[Any, ...]] = []
    for workload in judged.facts:
        ran = [name for name in judged.entries if (workload, name) in cells]
        if judged.baseline not in ran or len(ran) < 2:
            continue
        theirs = workload, judged.baseline
        reference, kind = _reference(cells[theirs], studies[theirs], column)
        for name in ran:
            cell, sure = cells[workload, name], known[workload, name]
            ratio = getattr(cell, f"median_{column}") / reference
            span = [math.nan] * 4
            if kind == "ratio":
                span[:2] = _interval(sure, column)
                if column == "seconds" and name != judged.baseline:
                    span[2:] = [sure.earliest, sure.latest]
            points = studies[workload, name][column].to_numpy(float) / reference
            shown = kind if math.isfinite(ratio) else "missed"
            if column == "steps" and name in judged.other_steps:
                shown, ratio, span, points = "other", math.nan, [math.nan] * 4, np.zeros(0)
            rows.append((workload, name, shown, ratio, *span, points, cell.studies))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _interval(sure: Any, column: str) -> list[float]:
    """The interval of a ratio, open where a median of so many resamples misses the target."""
    if column == "seconds":
        return [sure.ci_low, sure.ci_high]
    # The factors' intervals leave those resamples out, which are the same as for seconds.
    low = 0.0 if sure.ci_low == 0 else sure.steps_low
    return [low, math.inf if math.isinf(sure.ci_high) else sure.steps_high]


def _reference(cell: Any, studies: pd.DataFrame, column: str) -> tuple[float, str]:
    """What 1 stands for on a workload, by the baseline's cell and studies; the kind of a ratio."""
    median = float(getattr(cell, f"median_{column}"))
    if math.isfinite(median):
        return median, "ratio"
    at_least = studies[column].where(studies["reached"], studies[_LAST[column]])
    return float(np.median(at_least)), "bound"
