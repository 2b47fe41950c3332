"""What the league's figures rest on, for documents: dropout, the runs behind targets, the code.

Seconds are those of the points as they were chosen. Some of these drop out and others don't, which
makes a step of most models dearer and has nothing to do with the optimizer.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import style
from analysis.judgement import Judgement, medians_of, where_both_reach
from analysis.league_tables import BASELINE, HERO, LEAGUE, judged
from analysis.scoring import performance_profile, times_table
from analysis.texts import span_text
from common import files
from scripts.league import cost
from scripts.local.metrics_log import read_csv
from scripts.local.search_table import COLUMNS

_REPEATS = LEAGUE.parent / "targets" / "repeats.csv"
_STUDY = "scripts.study"


@dataclasses.dataclass(frozen=True)
class Dropout:
    """What dropout does to the ratio of an entry's seconds to the baseline's.

    Attributes:
      both: workloads on which both medians reach the target.
      differing: of these, where the baseline's points alone drop out.
      ratio: over all of these, the geometric mean of the ratios that steps without dropout give.
    """

    both: int
    differing: int
    ratio: float


def seconds_without_dropout(pool: Judgement, path: Path = LEAGUE / "step_cost.csv") -> pd.DataFrame:
    """Median steps times what a step costs without dropout: seconds, workload by submission.

    Args:
      pool: a judgement of the league.
      path: costs of steps, measured by `scripts.league.cost`.
    """
    rows = pd.DataFrame(read_csv(path, cost.COLUMNS)).astype({"milliseconds": float})
    costs = rows.pivot(index="workload", columns="entry", values="milliseconds")
    steps = times_table(pool.cells, "median_steps")
    return steps * costs.reindex_like(steps) / 1e3


def without_dropout(pool: Judgement, hero: str) -> Dropout:
    """An entry beside the baseline if no point dropped out."""
    seconds = seconds_without_dropout(pool)[[hero, BASELINE]]
    both, ratio = where_both_reach(seconds)
    medians = medians_of(pool, hero, "steps")
    reached = medians.index[np.isfinite(medians).all(axis=1)]
    rates = (pool.dropout[hero, name] for name in reached if (hero, name) in pool.dropout)
    differing = sum(max(baseline) > max(own) for own, baseline in rates)
    return Dropout(both, differing, ratio)


def dropout_text(pool: Judgement | None = None) -> str:
    """What dropout has to do with the headline's seconds.

    Args:
      pool: the committed study by default.
    """
    result = without_dropout(pool or judged(), HERO)
    hero, baseline = style.label(HERO), style.label(BASELINE)
    return (
        f"on {result.differing} of the {result.both} workloads that both reach, {baseline}'s point "
        f"drops out and {hero}'s does not, and at the cost of a step without dropout {hero} takes "
        f"{result.ratio:.2f} × the seconds"
    )


def scores_without_dropout() -> str:
    """All scores if steps cost what they do without dropout, in the order of the standings."""
    pool = judged()
    scores = performance_profile(seconds_without_dropout(pool), pool.rules).scores
    return ", ".join(f"{scores[entry]:.2f}" for entry in pool.entries)


def target_runs_text() -> str:
    """The hero's steps beside those of the runs that set the targets, at their best values."""
    best: dict[str, list[float]] = {}
    for row in read_csv(_REPEATS, COLUMNS):
        best.setdefault(row["workload"], []).append(float(row["best_step"]))
    medians = times_table(judged().cells, "median_steps")[HERO]
    ratios = [
        steps / statistics.median(best[name])
        for name, steps in medians.items()
        if np.isfinite(steps)
    ]
    spread = span_text(round(ratio, 2) for ratio in ratios)
    return f"{spread}, {statistics.geometric_mean(ratios):.2f} in the geometric mean"


def study_run_text(path: Path = LEAGUE / "manifest.json") -> str:
    """When and at which code the committed study ran."""
    runs: Sequence[Mapping[str, Any]] = files.read_json(path)["invocations"]
    studies = [run for run in runs if _STUDY in run["command"]]
    days = sorted({run["started"][:10] for run in studies})
    commits = sorted({run["git_commit_hash"][:8] for run in studies})
    return f"on {' and '.join(days)}, at the code of commit {' and '.join(commits)}"


TABLES = {
    "dropout": dropout_text,
    "gain-without-dropout": lambda: f"{without_dropout(judged(), HERO).ratio:.2f}",
    "scores-without-dropout": scores_without_dropout,
    "target-runs": target_runs_text,
    "study-run": study_run_text,
}
