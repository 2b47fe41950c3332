"""What in a set of logs makes a comparison of its entries less than fair."""

import json
from pathlib import Path

import pandas as pd

from analysis.evaluations import Problem
from analysis.scoring import CELL_KEYS, compare_rules, distinct_hyperparameters
from analysis.texts import runs_text
from workloads import registry
from workloads.rulesets import STANDIN, Ruleset

# An evaluation period this many times the rules' one makes times to target too long.
_COARSE = 1.5
# The least relative excess of a study's official time over its fastest one that is reported.
_MATTERS = 1e-3


def ruleset_problems(trials: pd.DataFrame, ruleset: Ruleset, directory: Path) -> list[Problem]:
    """Where the logs are not what the rules ask for, and scores depend on it.

    That is: workloads without runs; missing or additional studies and trials; two frameworks, which
    are counted together; evaluations further apart than the rules have them; targets reached after
    the budget, which the official code counts as reached; and studies whose time depends on how the
    best trial is picked. One problem per submission and workload, and one per submission for the
    workloads that it has no runs on. A `smaller_plan` is no problem.

    Args:
      trials: as `analysis.scoring.score_trials` returns.
      ruleset: the rules.
      directory: the folder or table of logs.
    """
    problems = []
    rows = trials[trials["workload"].isin(ruleset.workloads)]
    run_by_any = {*ruleset.base_workloads, *rows["workload"]}
    for submission in sorted(set(trials["submission"])):
        run = set(rows.loc[rows["submission"] == submission, "workload"])
        missing = [name for name in ruleset.workloads if name in run_by_any - run]
        if missing:
            reason = f"no runs on {', '.join(missing)}; counted as missed"
            problems.append(_problem(directory, submission, reason))
    for name in ruleset.workloads:
        if name not in run_by_any:
            reason = f"nobody has run {name}; its rule for held-out workloads is not applied"
            problems.append(Problem(directory, reason))
    differing = compare_rules(rows)
    planned = smaller_plan(trials, ruleset) is not None
    differing = dict(list(differing[differing["excess"] >= _MATTERS].groupby(CELL_KEYS)))
    for key, cell in rows.groupby(CELL_KEYS):
        submission, workload = map(str, key)
        reasons = [] if planned else _missing(cell, ruleset)
        reasons += _cell_reasons(cell, workload, ruleset)
        if key in differing:
            studies = ", ".join(map(str, differing[key]["study"]))
            reasons.append(
                "the trial with the earliest evaluation, which the official code takes, is not the "
                f"fastest in study {studies} (up to {differing[key]['excess'].max():.2%} slower)"
            )
        if reasons:
            reason = f"workload {workload}: {'; '.join(reasons)}"
            problems.append(_problem(directory, submission, reason))
    return problems


def smaller_plan(trials: pd.DataFrame, ruleset: Ruleset) -> tuple[int, int] | None:
    """Points and studies of every cell of stand-ins, where all have as many and the rules do not.

    That is a study planned so, fair to all its entries; nothing is missing from it.

    Args:
      trials, ruleset: as `ruleset_problems` takes them.
    """
    if ruleset.version != STANDIN:
        return None
    rows = trials[trials["workload"].isin(ruleset.workloads)]
    per_study = rows.groupby([*CELL_KEYS, "study"]).size()
    studies = set(per_study.groupby(CELL_KEYS).size())
    points = set(per_study)
    plans = [(one, other) for one in points for other in studies]
    if len(plans) != 1 or plans[0] == (ruleset.trials, ruleset.studies):
        return None
    return plans[0]


def _problem(directory: Path, submission: str, reason: str) -> Problem:
    folder = directory / submission
    if folder.is_dir():
        return Problem(folder, reason)
    return Problem(directory, f"{submission}: {reason}")


def _missing(cell: pd.DataFrame, ruleset: Ruleset) -> list[str]:
    """Which studies and trials one submission lacks on one workload, or has besides."""
    reasons = []
    studies, trials = cell["study"].nunique(), cell.groupby("study").size()
    if studies != ruleset.studies:
        reasons.append(f"{studies} of {ruleset.studies} studies")
    wrong = trials[trials != ruleset.trials]
    if len(wrong):
        listed = ", ".join(f"{count} in study {study}" for study, count in wrong.items())
        reasons.append(f"not {ruleset.trials} trials but {listed}")
    return reasons


def _cell_reasons(cell: pd.DataFrame, workload: str, ruleset: Ruleset) -> list[str]:
    """How the trials of one submission on one workload differ from the rules otherwise."""
    reasons = []
    frameworks = sorted(set(cell["framework"]))
    if len(frameworks) > 1:
        reasons.append(f"trials of {' and '.join(frameworks)} are counted together")
    version = None if ruleset.version == STANDIN else ruleset.version
    due = registry.facts(workload, version).eval_period_seconds
    period = cell["evaluation_period"].median()
    if due and period > _COARSE * due:
        reasons.append(
            f"evaluated every {period:.0f} s instead of {due} s, so its times to target are upper "
            "bounds by up to as much"
        )
    budget = ruleset.budget_seconds(workload)
    late = (cell["reached"] & (cell["seconds"] > budget)).sum()
    if late:
        reasons.append(f"{late} trials reach the target after the {budget:g} s of the budget")
    return reasons


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
