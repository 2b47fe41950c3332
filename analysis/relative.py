"""Times to target relative to the baseline's, workload by workload."""

import numpy as np
import pandas as pd

from analysis.judgement import Judgement
from analysis.scoring import CELL_KEYS
from analysis.texts import CUT

# The least that a study needed that misses the target.
_LAST = {"steps": "last_step", "seconds": "last_seconds"}
_COLUMNS = ["workload", "submission", "kind", "ratio", "low", "high", "studies"]


def relative(judged: Judgement, column: str) -> pd.DataFrame:
    """Ratios to the baseline on every workload that it and others have run.

    Args:
      judged: with a baseline.
      column: `steps` or `seconds`.

    Returns:
      One row per workload and submission, in the order of `judged`: workload, submission; kind:
      `ratio`, `bound` (the baseline's median study misses; the ratio is to the length of its
      shortest trials, and an upper bound), `missed` (the submission's median study misses), `cut`
      (so it does, where `--max_steps` ended trials), or `other` (its logs count steps otherwise);
      ratio; low, high (its interval, NaN for a bound or from one study); studies.
    """
    table = judged.cells.merge(
        judged.intervals.ratios.drop(columns=["studies", "steps_ratio"]), on=CELL_KEYS, how="left"
    )
    of_baseline = judged.studies[judged.studies["submission"] == judged.baseline]
    least = of_baseline[column].where(of_baseline["reached"], of_baseline[_LAST[column]])
    medians = of_baseline.assign(least=least).groupby("workload")[[column, "least"]].median()
    is_bound = np.isinf(medians[column])
    reference = medians[column].where(~is_bound, medians["least"])
    table["ratio"] = table[f"median_{column}"] / table["workload"].map(reference)
    low, high = table["ci_low"], table["ci_high"]
    if column == "steps":
        # Intervals of factors leave out resamples whose median misses; in seconds these are
        # infinite, so the interval in steps is open on the same side.
        low = table["steps_low"].mask(low == 0, 0.0)
        high = table["steps_high"].mask(np.isinf(high), np.inf)
    is_other = table["submission"].isin(judged.other_steps) & (column == "steps")
    missed = np.isinf(table["ratio"])
    kinds = {
        "other": is_other,
        CUT: missed & (table["cut"] > 0),
        "missed": missed,
        "bound": table["workload"].map(is_bound).eq(True),
    }
    table = table.assign(
        kind=np.select(list(kinds.values()), list(kinds), "ratio"),
        ratio=table["ratio"].mask(is_other),
        low=low.mask(is_other),
        high=high.mask(is_other),
    )
    several = table.groupby("workload")["submission"].transform("size") > 1
    order = {name: place for place, name in enumerate((*judged.facts, *judged.entries))}
    return table.loc[table["workload"].isin(medians.index) & several, _COLUMNS].sort_values(
        ["workload", "submission"], key=lambda names: names.map(order), ignore_index=True
    )
