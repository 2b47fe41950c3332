"""Whether a trial's evaluations follow on from each other, and what to make of them if not."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.problem import Problem


def mend(
    frame: pd.DataFrame,
    trial: np.ndarray,
    met: np.ndarray,
    explained: np.ndarray,
    locate: Callable[[int, str], Problem],
) -> tuple[np.ndarray, list[Problem]]:
    """Which evaluations to use, and what is odd about the trials.

    Where steps go back, a run was resumed from an older checkpoint and did them again: the later
    evaluations count. A trial whose submission time goes back is left out. Evaluations without a
    validation metric stay, and count as missed.

    Args:
      frame: evaluations with `global_step`, `score` and `validation_metric`.
      trial: int [rows], the number of each row's trial from 0 on; a trial's rows are contiguous.
      met: bool [rows], whether the evaluation meets the validation target.
      explained: bool [trials], whether it is known from elsewhere how the trial ended.
      locate: makes a problem of a trial's number and a reason.

    Returns:
      bool [rows], and at most one problem per trial, in the order of trials.
    """
    reasons: dict[int, list[str]] = {}
    step = frame["global_step"].to_numpy()
    seconds = frame["score"].to_numpy()
    keep = np.ones(len(frame), dtype=bool)
    starts = np.searchsorted(trial, np.arange(len(explained) + 1))
    follows = trial[1:] == trial[:-1]
    for number in np.unique(trial[1:][follows & (step[1:] <= step[:-1])]):
        rows = slice(starts[number], starts[number + 1])
        later = np.minimum.accumulate(step[rows][::-1])[::-1]
        keep[rows][:-1] = step[rows][:-1] < later[1:]
        again = int((~keep[rows]).sum())
        reason = f"resumed: steps go back, {again} evaluations were done again; the later ones used"
        reasons.setdefault(int(number), []).append(reason)
    kept = np.flatnonzero(keep)
    back = kept[1:][(trial[kept[1:]] == trial[kept[:-1]]) & (np.diff(seconds[kept]) < 0)]
    for number, row in zip(*_first_of_each(trial[back], back), strict=True):
        keep[starts[number] : starts[number + 1]] = False
        reason = f"submission time goes back to {seconds[row]:g} s at step {step[row]}; left out"
        reasons.setdefault(int(number), []).append(reason)
    rows_of = np.bincount(trial[keep], minlength=len(explained))
    unknown = np.isnan(frame["validation_metric"].to_numpy(float)) & keep
    unknown_of = np.bincount(trial[unknown], minlength=len(explained))
    # A trial whose time was up before its first evaluation has a row, but no evaluation.
    none = explained & (rows_of == 1) & (unknown_of == 1)
    for number in np.flatnonzero((unknown_of > 0) & ~none):
        share = f"{unknown_of[number]} of {rows_of[number]} evaluations"
        reason = f"{share} have no validation metric; these count as missed"
        reasons.setdefault(int(number), []).append(reason)
    reached = np.bincount(trial[met & keep], minlength=len(explained)) > 0
    for number in np.flatnonzero((rows_of == 1) & ~reached & ~explained):
        reason = "one evaluation only, which misses the target; the trial died?"
        reasons.setdefault(int(number), []).append(reason)
    return keep, [locate(number, "; ".join(said)) for number, said in sorted(reasons.items())]


def _first_of_each(numbers: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct numbers, and the first row of each."""
    distinct, first = np.unique(numbers, return_index=True)
    return distinct, rows[first]
