"""What in a set of logs makes a comparison of its entries less than fair."""

import json
from pathlib import Path

import pandas as pd

from analysis.logs import Problem
from analysis.scoring import CELL_KEYS, distinct_hyperparameters
from analysis.tables import runs_text


def budget_problems(table: pd.DataFrame, directory: Path) -> list[Problem]:
    """One problem per workload on which entries ran different numbers of trials.

    Args:
      table: as `analysis.scoring.score_workloads` returns.
      directory: the folder of logs.
    """
    problems = []
    for workload, cells in table.groupby("workload"):
        budgets = {
            row.submission: runs_text(row.points, row.studies, row.runs, row.unfinished)
            for row in cells.itertuples()
        }
        if len(set(budgets.values())) > 1:
            listed = "; ".join(
                f"{row.submission} {row.runs} trials ({budgets[row.submission]})"
                for row in cells.itertuples()
            )
            reason = f"workload {workload}: budgets differ (points x studies): {listed}"
            problems.append(Problem(directory, reason))
    return problems


def hyperparameter_problems(trials: pd.DataFrame, directory: Path) -> list[Problem]:
    """One problem per trial number that stands for different points in different studies.

    Args:
      trials: as `analysis.scoring.score_trials` returns.
      directory: the folder of logs.
    """
    problems = []
    for (submission, workload, trial), rows in trials.groupby([*CELL_KEYS, "trial"]):
        points = [json.loads(text) for text in distinct_hyperparameters(rows["hyperparameters"])]
        names = {name for point in points for name in point}
        differing = [
            name
            for name in sorted(names)
            if any(name not in point or point[name] != points[0].get(name) for point in points)
        ]
        if differing:
            reason = (
                f"workload {workload}, trial {trial}: studies disagree on {', '.join(differing)}; "
                "its medians mix different points"
            )
            problems.append(Problem(directory / str(submission), reason))
    return problems
