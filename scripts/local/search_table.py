"""The table of a search, search.csv, and the choice of a short list of points from it."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from common.cli import UserError
from scripts.local.curve import Curve
from scripts.local.metrics_log import read_csv, read_evaluations, write_csv
from scripts.local.trial import Trial, finished
from workloads import registry
from workloads.search_space import Point

TABLE, BEST = "search.csv", "best.csv"
COLUMNS = (
    *("workload", "entry", "trial"),
    *("best_validation", "best_step", "steps_to_target", "steps", "seconds"),
)
# What a point costs that does not reach the target, where the step hint costs 1.
MISS = 2.0


def rows_of(
    planned: Sequence[Trial], output: Path, targets: bool = True
) -> tuple[list[dict[str, Any]], list[str]]:
    """A row per finished trial, and a line for each trial whose log cannot be used.

    Args:
      targets: whether to look for the first step that met the validation target.
    """
    rows, problems = [], []
    for trial in planned:
        facts = registry.facts(trial.workload)
        path = trial.directory(output)
        try:
            if finished(trial, path) is None:
                raise UserError(f"{path}: the trial has not finished")
            evaluations = read_evaluations(path, [f"validation/{facts.metric}"])
        except UserError as error:
            problems.append(str(error))
            continue
        curve = Curve.of(evaluations, facts, "validation")
        best_step, best = curve.best()
        rows.append(
            {
                "workload": trial.workload,
                "entry": trial.entry,
                "trial": trial.trial,
                "best_validation": best,
                "best_step": best_step or "",
                "steps_to_target": (targets and curve.steps_to(facts.validation_target)) or "",
                "steps": curve.points[-1][0],
                "seconds": evaluations[-1]["score"],
                **trial.hyperparameters,
            }
        )
    return rows, problems


def write_table(
    path: Path, rows: Sequence[Mapping[str, Any]], key: Sequence[str] = ("workload", "entry")
) -> None:
    """Writes search.csv; rows that it holds already for other values of `key` stay."""
    written = {tuple(row[name] for name in key) for row in rows}
    present = _present(path)
    rows_of_others = [row for row in present if tuple(row[name] for name in key) not in written]
    write_csv(path, [*rows_of_others, *rows], COLUMNS)


def _present(path: Path) -> list[dict[str, str]]:
    """The rows of a table without their empty cells; none if there is no table."""
    rows = read_csv(path, COLUMNS) if path.exists() else []
    return [{name: value for name, value in row.items() if value != ""} for row in rows]


def recorded(path: Path, planned: Sequence[Trial]) -> tuple[list[dict[str, str]], list[Trial]]:
    """The rows that a table has of planned trials, and the trials of which it has none.

    A row counts if it has the trial's point; UserError if the table is damaged.
    """
    rows = {(row["workload"], row["entry"], row["trial"]): row for row in _present(path)}
    known, left = [], []
    for trial in planned:
        row = rows.get((trial.workload, trial.entry, str(trial.trial)))
        if row is not None and all(
            row.get(name) == str(value) for name, value in trial.hyperparameters.items()
        ):
            known.append(row)
        else:
            left.append(trial)
    return known, left


def costs_and_ranks(path: Path, entry: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cost and rank of each point on each workload, with a row per trial and a column per workload.

    The cost is that of the steps to the target, or MISS; the rank is the share of the searched
    points with a better validation value, from 0 to 1. UserError if a workload lacks some points.
    """
    costs: dict[str, dict[int, float]] = {}
    keys: dict[str, dict[int, float]] = {}
    for line, row in enumerate(read_csv(path, COLUMNS), start=2):
        if row["entry"] != entry:
            continue
        facts = registry.facts(row["workload"])
        try:
            trial, best = int(row["trial"]), float(row["best_validation"])
            cost = float(row["steps_to_target"] or MISS * facts.step_hint) / facts.step_hint
        except ValueError as error:
            raise UserError(f"{path} is damaged: line {line}: {error}") from error
        costs.setdefault(facts.name, {})[trial] = cost
        key = facts.sort_key(best) if facts.is_possible(best) else math.inf
        keys.setdefault(facts.name, {})[trial] = key
    if not costs:
        raise UserError(f"{path} has no rows for entry {entry!r}")
    table = pd.DataFrame(costs).sort_index()
    for workload in table.columns[table.isna().any()]:
        missing = table.index[table[workload].isna()].min()
        raise UserError(f"{path} lacks trial {missing} of {entry!r} on {workload!r}")
    return table, (pd.DataFrame(keys).rank(method="min") - 1) / len(table)


def choose(costs: pd.DataFrame, ranks: pd.DataFrame, count: int) -> list[int]:
    """The numbers of `count` points, in the order in which they were chosen."""
    chosen: list[int] = []

    def score(number: int) -> tuple[float, float, float, int]:
        candidates = [*chosen, number]
        # `fmean` does not depend on the order: equal costs must be equal.
        by_cost, by_rank = (fmean(table.loc[candidates].min()) for table in (costs, ranks))
        return by_cost, by_rank, fmean(ranks.loc[number]), number

    while len(chosen) < count:
        chosen.append(min((number for number in costs.index if number not in chosen), key=score))
    return [int(number) for number in chosen]


def best_of(costs: pd.Series, ranks: pd.Series) -> int:
    """The number of the point that did best on a workload: the cheapest, of these the nearest."""
    return int(min(costs.index, key=lambda number: (costs[number], ranks[number])))


def write_best(
    path: Path, entry: str, costs: pd.DataFrame, ranks: pd.DataFrame, searched: Sequence[Point]
) -> None:
    """Writes the point of an entry's list that did best on each workload; others' rows stay.

    Args:
      costs, ranks: of `costs_and_ranks`, the list's rows in its order. Of equal costs, as of points
        that all miss the target, the one with the best rank counts.
      searched: the points by their number in the search, from 1.
    """
    columns = ("entry", "workload", "trial", "best", "hyperparameters")
    present = read_csv(path, columns) if path.exists() else []
    rows: list[dict[str, Any]] = [dict(row) for row in present if row["entry"] != entry]
    for workload in costs.columns:
        number = best_of(costs[workload], ranks[workload])
        place = costs.index.get_loc(number) + 1
        row = {"entry": entry, "workload": workload, "trial": place, "best": True}
        point = json.dumps(searched[number - 1], sort_keys=True)
        rows.append(row | {"hyperparameters": point})
    write_csv(path, rows, columns)


def check_kept(path: Path, entry: str, searched: Sequence[str], where: Path) -> None:
    """UserError if a list would lose the best points of workloads that the search was not on.

    Args:
      path: best.csv, if it is there.
      searched: names of the search's workloads.
      where: the search's table.
    """
    rows = read_csv(path, ("entry", "workload")) if path.exists() else []
    lost = [r["workload"] for r in rows if r["entry"] == entry and r["workload"] not in searched]
    if lost:
        raise UserError(
            f"{where} has no trial of {entry!r} on {', '.join(lost)}, whose best points are in "
            f"{path}: search there, too, or choose another --output"
        )


def check_points(path: Path, entry: str, points: Sequence[Point]) -> None:
    """UserError if the search used other points than these."""
    for row in read_csv(path, COLUMNS):
        if row["entry"] != entry:
            continue
        for name, value in points[int(row["trial"]) - 1].items():
            if row.get(name) != str(value):
                raise UserError(
                    f"{path}: trial {row['trial']} of {entry!r} has {name}={row.get(name)}, "
                    f"the ranges give {value}; pass the --ranges of that search"
                )
