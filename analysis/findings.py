"""What the numbers say, in sentences that are generated from them.

An entry is said to need fewer steps or seconds only where the ranges of its studies and the other's
do not overlap.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis import style
from analysis.tables import NOT_REACHED, ratio_text, runs_text, seconds_text, steps_text
from workloads.facts import WorkloadFacts

_FORMS = {"steps": steps_text, "seconds": seconds_text}
_UNITS = {"steps": "", "seconds": " s"}


def findings(table: pd.DataFrame, baseline: str, facts: Mapping[str, WorkloadFacts]) -> list[str]:
    """A few sentences per workload and entry: who needs fewer steps, who fewer seconds, and why.

    Args:
      table: as `analysis.scoring.score_workloads` returns.
      baseline: the submission to compare with.
      facts: of every workload in `table`.
    """
    lines = []
    cells = {(row.workload, row.submission): row for row in table.itertuples()}
    for (workload, submission), row in sorted(cells.items()):
        if submission == baseline:
            continue
        other = cells.get((workload, baseline))
        lines.append(f"**{workload}**: {_compare(row, other, baseline, facts[workload])}")
    return lines


def _compare(row: Any, other: Any, baseline: str, facts: WorkloadFacts) -> str:
    ours, theirs = style.label(row.submission), style.label(baseline)
    if facts.validation_target is None:
        return f"No target is set, so {ours} cannot be judged."
    if other is None:
        return f"{theirs} has no usable run to compare {ours} with."
    sentences = []
    reached, other_reached = math.isfinite(row.median_steps), math.isfinite(other.median_steps)
    if reached or other_reached:
        if reached != other_reached:
            only = ours if reached else theirs
            sentences.append(f"Only the median study of {only} reaches the target.")
        sentences += [_steps_sentence(row, other, facts), _seconds_sentence(row, other)]
    else:
        sentences.append(f"Neither median study of {ours} and {theirs} reaches the target.")
    if row.reached < row.studies or other.reached < other.studies:
        sentences.append(
            f"{ours} reached the target in {row.reached} of {row.studies} studies, "
            f"{theirs} in {other.reached} of {other.studies}."
        )
    budgets = [runs_text(x.points, x.studies, x.runs, x.unfinished) for x in (row, other)]
    if budgets[0] != budgets[1]:
        counts = f"{ours} ran {budgets[0]} (points x studies), {theirs} {budgets[1]}"
        sentences.append(f"The budgets differ: {counts}.")
    return " ".join(sentences)


def _steps_sentence(row: Any, other: Any, facts: WorkloadFacts) -> str:
    lead = _lead(row, other, "steps")
    close = abs(row.median_steps - other.median_steps) <= facts.eval_period_steps
    doubt = ", though by no more than one evaluation period" if lead and close else ""
    verdict = _verdict(row, other, "steps")
    return f"{verdict[0].upper()}{verdict[1:]}{doubt}."


def _seconds_sentence(row: Any, other: Any) -> str:
    ours, theirs = style.label(row.submission), style.label(other.submission)
    cost = f"A step of {ours} costs {ratio_text(row.step_cost_ratio)} times one of {theirs}"
    verdict = _verdict(row, other, "seconds")
    leader = _lead(row, other, "steps")
    first, second = (row, other) if leader < 0 else (other, row)
    paid = (row.step_cost_ratio > 1) == (leader < 0)
    if leader and paid and first.median_seconds >= second.median_seconds:
        name = style.label(first.submission)
        lost = _lead(row, other, "seconds") != 0
        effect = f"costs {name} the lead" if lost else f"uses up {name}'s lead"
        return f"{cost}, which {effect}: {verdict}."
    return f"{cost}; {verdict}."


def _lead(row: Any, other: Any, column: str) -> int:
    """-1 where every study of `row` needed less than any of `other`, 1 the other way, else 0."""
    if getattr(row, f"max_{column}") < getattr(other, f"min_{column}"):
        return -1
    return int(getattr(other, f"max_{column}") < getattr(row, f"min_{column}"))


def _verdict(row: Any, other: Any, column: str) -> str:
    lead = _lead(row, other, column)
    numbers = f"{_with_range(row, column)}; {_with_range(other, column)}"
    ratio = getattr(row, f"{column}_ratio")
    if math.isfinite(ratio):
        numbers += f"; ratio {ratio_text(ratio)}"
    if lead == 0:
        return f"no clear difference in {column}: the studies' ranges overlap ({numbers})"
    winner = style.label((row if lead < 0 else other).submission)
    return f"{winner} needs fewer {column} ({numbers})"


def _with_range(row: Any, column: str) -> str:
    """An entry's median with the range over its studies."""
    form, unit = _FORMS[column], _UNITS[column]
    median, low, high = (getattr(row, f"{part}_{column}") for part in ("median", "min", "max"))
    text = f"{style.label(row.submission)} {form(median)}{unit if math.isfinite(median) else ''}"
    if row.studies == 1:
        return f"{text} in its only study"
    if math.isinf(low):
        return f"{text} in any study"
    if math.isinf(high):
        return f"{text}, studies {form(low)} to {NOT_REACHED}"
    return f"{text}, studies {form(low)} to {form(high)}"
