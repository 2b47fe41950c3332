"""What the league's figures rest on, for documents: the runs behind targets, the code."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.league_tables import HERO, LEAGUE, judged
from analysis.scoring import times_table
from analysis.texts import span_text
from common import files
from scripts.local.metrics_log import read_csv
from scripts.local.search_table import COLUMNS

_REPEATS = LEAGUE.parent / "targets" / "repeats.csv"
_STUDY = "scripts.study"


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
    "target-runs": target_runs_text,
    "study-run": study_run_text,
}
