"""Submissions beside a baseline, workload by workload."""

import numpy as np
import pandas as pd

from analysis.scoring import CELL_KEYS, score_studies, time_to_target


def score_workloads(trials: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Times to target, what was run for them, and ratios to a baseline.

    Args:
      trials: as `analysis.scoring.score_trials` returns.
      baseline: the submission to divide by; it may be absent.

    Returns:
      CELL_KEYS; points (distinct trial numbers), studies, runs (trials over all studies, points x
      studies if none is missing), unfinished (of the runs); the other columns of
      `analysis.scoring.time_to_target`; steps_ratio, seconds_ratio (of the medians),
      steady_cost_ratio (of steady_seconds_per_step). A steps or seconds ratio is inf where the
      submission misses and the baseline does not, NaN where the baseline misses or did not run.
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
        ("seconds_ratio", "median_seconds"),
        ("steady_cost_ratio", "steady_seconds_per_step"),
    ):
        reference = cells[cells["submission"] == baseline].set_index("workload")[column]
        divisor = cells["workload"].map(reference).astype(float)
        cells[ratio] = cells[column] / divisor.where(np.isfinite(divisor) & (divisor > 0))
    return cells
