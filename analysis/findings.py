"""What the numbers say, in sentences that are generated from them.

On one workload an entry is said to need fewer steps or seconds only where the ranges of its studies
and the other's do not overlap.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis import style
from analysis.judgement import Judgement
from analysis.scoring import times_table
from analysis.tables import mean_text
from analysis.texts import (
    NOT_REACHED,
    interval_text,
    ratio_text,
    runs_text,
    seconds_text,
    steps_text,
)
from workloads.facts import WorkloadFacts

_FORMS = {"steps": steps_text, "seconds": seconds_text}
_UNITS = {"steps": "", "seconds": " s"}


def overview(judged: Judgement) -> list[str]:
    """One finding per entry: its score, and on which workloads it is faster or slower.

    An entry is said to be faster or slower than the baseline on a workload only where the whole
    interval of the ratio of their times is on that side of 1, and all that the evaluation periods
    allow.

    Args:
      judged: the logs' judgement.
    """
    scores = judged.intervals.scores.set_index("submission")
    better = judged.intervals.better
    better = better[better["workload"] == ""].set_index(["a", "b"])["probability"]
    lines = []
    for place, name in enumerate(judged.entries, start=1):
        row = scores.loc[name]
        score = interval_text(row["score"], row["ci_low"], row["ci_high"], digits=3)
        rank = f"score {score}, place {place} of {len(judged.entries)}"
        sentences = [f"**{style.label(name)}**: {rank}."]
        if judged.baseline is not None and name != judged.baseline:
            sentences += _against(judged, name)
            share = better.get((name, judged.baseline))
            if share is not None:
                against = style.label(judged.baseline)
                sentences.append(f"Its score is above {against}'s in {share:.0%} of resamples.")
        lines.append(" ".join(sentences))
    return lines


def _against(judged: Judgement, name: str) -> list[str]:
    """Where an entry is faster than the baseline, slower, or neither."""
    groups = compare_times(judged, name)
    against = style.label(judged.baseline or "")
    said = [
        f"{what} on {len(groups[kind])} ({', '.join(groups[kind])})"
        for kind, what in _KINDS.items()
        if groups[kind]
    ]
    sentences = [f"Against {against}: {'; '.join(said)}."] if said else []
    sentences.append(f"Geometric mean of the time ratios: {mean_text(judged, name)} workloads.")
    return sentences


_KINDS = {
    "faster": "faster",
    "slower": "slower",
    "unclear": "no clear difference",
    "alone": "reaches the target, which the baseline's median misses,",
    "missed": "misses the target, which the baseline's median reaches,",
    "neither": "both medians miss the target",
}


def compare_times(judged: Judgement, name: str) -> dict[str, list[str]]:
    """The workloads that an entry and the baseline have run, by how their times compare.

    Args:
      judged: the logs' judgement, with a baseline.
      name: the entry.

    Returns:
      `faster` and `slower` (the whole interval of the ratio is on that side of 1, and all that the
      evaluation periods allow), `unclear` (it is not, or there is none), `alone` (only the entry's
      median reaches the target), `missed` (only the baseline's does), `neither`; each with its
      workloads, in the order of `judged`.
    """
    groups: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    cells = judged.cells.set_index(["submission", "workload"])["median_seconds"]
    rows = judged.intervals.ratios
    rows = rows[rows["submission"] == name].set_index("workload")
    for workload in judged.facts:
        if workload not in rows.index or (judged.baseline, workload) not in cells.index:
            continue
        row = rows.loc[workload]
        if math.isnan(row["ratio"]):
            kind = "alone" if math.isfinite(cells[name, workload]) else "neither"
        elif math.isinf(row["ratio"]):
            kind = "missed"
        elif row["ci_high"] < 1 and row["latest"] < 1:
            kind = "faster"
        else:
            kind = "slower" if row["ci_low"] > 1 and row["earliest"] > 1 else "unclear"
        groups[kind].append(workload)
    return groups


def losses(judged: Judgement, name: str) -> list[str]:
    """Where an entry is not clearly better than the baseline, and what it pays.

    Args:
      judged: the logs' judgement, with a baseline.
      name: the entry.
    """
    groups = compare_times(judged, name)
    ours, theirs = style.label(name), style.label(judged.baseline or "")
    lines = [
        f"{ours} {verb} {theirs} on {len(groups[kind])}: {', '.join(groups[kind])}."
        for kind, verb in _LOSSES.items()
        if groups[kind]
    ] or [f"On no workload is {ours} anything but clearly faster than {theirs}."]
    cells = judged.cells[judged.cells["submission"] == name]
    cost = cells["steady_cost_ratio"].dropna()
    dear = cost[cost > 1]
    if len(dear):
        lines.append(
            f"A step of {ours} costs more than one of {theirs} on {len(dear)} of {len(cost)} "
            f"workloads: {dear.min():.2f} to {dear.max():.2f} times as much."
        )
    short = cells[cells["reached"] < cells["studies"]]
    if len(short):
        listed = ", ".join(
            f"{row.workload} ({row.studies - row.reached} of {row.studies})"
            for row in short.itertuples()
        )
        lines.append(f"{ours} misses the target in some studies: {listed}.")
    return lines


_LOSSES = {
    "slower": "is clearly slower than",
    "missed": "misses the target, which the median study reaches of",
    "unclear": "is neither clearly faster nor clearly slower than",
    "neither": "misses the target in the median, as does",
}


def places(judged: Judgement, name: str) -> list[str]:
    """An entry's place among all on every base workload, and its distance from the fastest.

    Args:
      judged: the logs' judgement.
      name: the entry.
    """
    times = times_table(judged.cells)
    lines: list[str] = []
    first: list[str] = []
    behind: list[str] = []
    for workload in judged.rules.base_workloads:
        if workload not in times.index:
            continue
        row = times.loc[workload].dropna().sort_values(kind="stable")
        ours = row.get(name, math.inf)
        if math.isfinite(row.iloc[0]):
            (first if ours == row.iloc[0] else behind).append(workload)
        lines.append(f"**{workload}**: {_place(row, name)}.")
    counts = (f"{len(group)} ({', '.join(group) or 'none'})" for group in (first, behind))
    total = f"First on {{}} and beaten on {{}} of {len(lines)} base workloads."
    return [total.format(*counts), *lines]


def _place(times: pd.Series, name: str) -> str:
    """Where an entry stands in one workload's times, the fastest first."""
    ours, best, leader = times.get(name, math.inf), times.iloc[0], style.label(times.index[0])
    if not math.isfinite(best):
        return "nobody's median study reaches the target"
    if not math.isfinite(ours):
        reached = int(np.isfinite(times).sum())
        return f"misses the target, which {reached} of {len(times)} reach, {leader} first"
    if ours > best:
        place = int((times < ours).sum()) + 1
        return f"place {place} of {len(times)}, {ours / best:.2f} times the time of {leader}"
    others = times.drop(name)
    if not len(others) or not math.isfinite(others.iloc[0]):
        return "first, and the only one to reach the target"
    factor = others.iloc[0] / ours
    return f"first; {style.label(others.index[0])} comes next with {factor:.2f} times its time"


def findings(table: pd.DataFrame, baseline: str, facts: Mapping[str, WorkloadFacts]) -> list[str]:
    """A few sentences per workload and entry: who needs fewer steps, who fewer seconds, and why.

    Args:
      table: as `analysis.comparison.score_workloads` returns.
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
    cost = f"A step of {ours} costs {ratio_text(row.steady_cost_ratio)} times one of {theirs}"
    verdict = _verdict(row, other, "seconds")
    leader = _lead(row, other, "steps")
    first, second = (row, other) if leader < 0 else (other, row)
    paid = (row.steady_cost_ratio > 1) == (leader < 0)
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
