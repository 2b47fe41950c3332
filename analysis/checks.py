"""What in a set of logs makes a comparison of its entries less than fair."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from analysis.evaluations import Problem
from analysis.scoring import CELL_KEYS, compare_rules, distinct_hyperparameters
from analysis.texts import runs_text
from workloads import registry
from workloads.rulesets import STANDIN, Ruleset

# A run that is evaluated this much less often than others is known to reach a target later.
_COARSE = 1.5
# From which share on a study's time by the official code is worth telling from the fastest one.
_MATTERS = 1e-3


def ruleset_problems(trials: pd.DataFrame, ruleset: Ruleset, directory: Path) -> list[Problem]:
    """Where the logs are not what the rules ask for, and scores depend on it.

    That is: workloads without runs; missing or additional studies and trials; two frameworks, which
    are counted together; evaluations further apart than the rules have them; targets reached after
    the budget, which the official code counts as reached; and studies whose time depends on how the
    best trial is picked. One problem per submission and workload, and one per submission for the
    workloads that it has no runs on.

    Args:
      trials: as `analysis.scoring.score_trials` returns.
      ruleset: the rules.
      directory: the folder or table of logs.
    """
    problems = []
    rows = trials[trials["workload"].isin(ruleset.workloads)]
    anyone = set(rows["workload"])
    for submission in sorted(set(trials["submission"])):
        ran = set(rows.loc[rows["submission"] == submission, "workload"])
        missing = [name for name in ruleset.workloads if name not in ran]
        lacking = [name for name in missing if name in {*ruleset.base_workloads, *anyone}]
        if lacking:
            reason = f"no runs on {', '.join(lacking)}; counted as missed"
            problems.append(_problem(directory, submission, reason))
    for name in ruleset.workloads:
        if name not in {*ruleset.base_workloads, *anyone}:
            reason = f"nobody has run {name}; its rule for held-out workloads is not applied"
            problems.append(Problem(directory, reason))
    differing = compare_rules(rows)
    differing = dict(list(differing[differing["excess"] >= _MATTERS].groupby(CELL_KEYS)))
    for key, cell in rows.groupby(CELL_KEYS):
        submission, workload = map(str, key)
        said = [check(cell, workload, ruleset) for check in _CELL_CHECKS]
        if key in differing:
            said.append(_pick(differing[key]))
        if any(said):
            reason = f"workload {workload}: {'; '.join(filter(None, said))}"
            problems.append(_problem(directory, submission, reason))
    return problems


def _problem(directory: Path, submission: str, reason: str) -> Problem:
    folder = directory / submission
    if folder.is_dir():
        return Problem(folder, reason)
    return Problem(directory, f"{submission}: {reason}")


def _counts(cell: pd.DataFrame, workload: str, ruleset: Ruleset) -> str:
    del workload
    said = []
    studies, trials = cell["study"].nunique(), cell.groupby("study").size()
    if studies != ruleset.studies:
        said.append(f"{studies} of {ruleset.studies} studies")
    other = trials[trials != ruleset.trials]
    if len(other):
        listed = ", ".join(f"{count} in study {study}" for study, count in other.items())
        said.append(f"not {ruleset.trials} trials but {listed}")
    return "; ".join(said)


def _frameworks(cell: pd.DataFrame, workload: str, ruleset: Ruleset) -> str:
    del workload, ruleset
    names = sorted(set(cell["framework"]))
    return f"trials of {' and '.join(names)} are counted together" if len(names) > 1 else ""


def _evaluation_period(cell: pd.DataFrame, workload: str, ruleset: Ruleset) -> str:
    version = None if ruleset.version == STANDIN else ruleset.version
    due = registry.facts(workload, version).eval_period_seconds
    period = cell["evaluation_period"].median()
    if not due or not period > _COARSE * due:
        return ""
    return (
        f"evaluated every {period:.0f} s instead of {due} s, so its times to target are upper "
        "bounds by up to as much"
    )


def _budget(cell: pd.DataFrame, workload: str, ruleset: Ruleset) -> str:
    budget = ruleset.budget_seconds(workload)
    late = cell.loc[cell["reached"] & (cell["seconds"] > budget), "seconds"]
    if late.empty:
        return ""
    return f"{len(late)} trials reach the target after the {budget:g} s of the budget"


def _pick(studies: pd.DataFrame) -> str:
    listed = ", ".join(map(str, studies["study"]))
    return (
        f"the trial with the earliest evaluation, which the official code takes, is not the "
        f"fastest in study {listed} (up to {studies['excess'].max():.2%} slower)"
    )


_CELL_CHECKS: tuple[Callable[[pd.DataFrame, str, Ruleset], str], ...] = (
    _counts,
    _frameworks,
    _evaluation_period,
    _budget,
)


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
