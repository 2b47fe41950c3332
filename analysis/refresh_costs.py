"""What an interval between refreshes does to seconds: its steps times the cost of one.

Steps are those of `analysis.methods`, costs those that `scripts.league.cost` measured of the same
variants in one process. The last row bounds what an interval chosen by the clock could gain.
"""

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import methods
from common import documents
from scripts.league.cost import COLUMNS
from scripts.local.metrics_log import read_csv

COSTS = methods.FOLDER / "cost" / "step_cost.csv"
ENTRY = methods.BASES[methods.BASE]
# By interval, the column in the table of steps and the one in the table of costs.
INTERVALS = {
    1: ("interval1", "interval1"),
    10: ("interval10", "interval10"),
    20: (methods.BASE, ENTRY),
    50: ("interval50", "interval50"),
    100: ("interval100", "interval100"),
}
_FEWEST = "the best of each workload"


def steps_ratios(steps: pd.DataFrame) -> pd.DataFrame:
    """Steps over the base's, a row per workload and a column per interval.

    Geometric means over the seeds with which both reach the target.

    Args:
      steps: as `methods.read` returns them.
    """
    columns = {interval: steps[name] for interval, (name, _) in INTERVALS.items()}
    ratios = pd.DataFrame(columns).div(steps[methods.BASE], axis=0)
    logarithms = np.log(ratios.where(np.isfinite(ratios)))
    return np.exp(logarithms.groupby("workload").mean())


def cost_ratios(path: Path = COSTS) -> pd.DataFrame:
    """Costs of a training step over the base's, likewise; UserError for a damaged file."""
    rows = pd.DataFrame(read_csv(path, COLUMNS)).astype({"milliseconds": float})
    times = rows.pivot(index="workload", columns="entry", values="milliseconds")
    columns = {interval: times[name] for interval, (_, name) in INTERVALS.items()}
    return pd.DataFrame(columns).div(times[ENTRY], axis=0)


def seconds_table(steps: pd.DataFrame, costs: pd.DataFrame) -> str:
    """A row per interval, and one of each workload's own best; geometric means over workloads.

    Args:
      steps, costs: ratios, a row per workload and a column per interval.
    """
    seconds = steps * costs
    rows: list[Mapping[str, object]] = [
        {
            "`refresh_interval`": str(interval),
            **{
                name: f"{statistics.geometric_mean(ratios[interval]):.2f}"
                for name, ratios in (("steps", steps), ("a step", costs), ("seconds", seconds))
            },
        }
        for interval in INTERVALS
    ]
    best = statistics.geometric_mean(seconds.min(axis=1))
    rows.append(
        {"`refresh_interval`": _FEWEST, "steps": "", "a step": "", "seconds": f"{best:.2f}"}
    )
    return documents.table(rows, left=1, fmt="pipe")


def committed_table() -> str:
    """The table of the committed measurements."""
    return seconds_table(steps_ratios(methods.tables()[0]), cost_ratios())


TABLES: Mapping[str, Callable[[], str]] = {"refresh-seconds": committed_table}
