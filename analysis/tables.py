"""What the numbers say, as Markdown: tables, and sentences that are generated from them."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from tabulate import tabulate

from analysis import style
from workloads.facts import WorkloadFacts

NOT_REACHED = "not reached"
UNKNOWN = "–"


def steps_text(value: float) -> str:
    """A number of steps.

    >>> steps_text(1240.0), steps_text(math.inf), steps_text(math.nan)
    ('1,240', 'not reached', '–')
    """
    return _text(value, lambda steps: f"{steps:,.10g}")


def seconds_text(value: float) -> str:
    """Seconds, to a tenth where there are a hundred or more.

    >>> seconds_text(1234.56), seconds_text(1.2345)
    ('1,234.6', '1.23')
    """
    return _text(value, lambda seconds: f"{seconds:,.{1 if seconds >= 100 else 2}f}")


def ratio_text(value: float) -> str:
    """A ratio, to a hundredth."""
    return _text(value, lambda ratio: f"{ratio:.2f}")


def summary_table(table: pd.DataFrame, baseline: str, fmt: str = "github") -> str:
    """The table of `analysis.scoring.score_workloads`, for people.

    Args:
      table: as `analysis.scoring.score_workloads` returns.
      baseline: the submission that ratios divide by.
      fmt: a format of `tabulate`.
    """
    against = style.label(baseline)
    rows = [
        {
            "workload": row.workload,
            "entry": style.label(row.submission),
            "reached": f"{row.reached} of {row.studies}",
            "steps": steps_text(row.median_steps),
            f"steps / {against}": ratio_text(row.steps_ratio),
            "seconds": seconds_text(row.median_seconds),
            f"seconds / {against}": ratio_text(row.seconds_ratio),
            "ms per step": ratio_text(1000 * row.seconds_per_step),
            f"cost / {against}": ratio_text(row.step_cost_ratio),
            "best point per study": row.best_trials,
        }
        for row in table.sort_values(["workload", "submission"]).itertuples()
    ]
    return _tabulate(rows, fmt, left=2)


def points_table(points: pd.DataFrame) -> str:
    """The table of `analysis.scoring.score_points`, for people."""
    rows = [
        {
            "workload": row.workload,
            "entry": style.label(row.entry),
            "point": row.trial,
            "reached": f"{row.reached} of {row.studies}",
            "median steps": steps_text(row.median_steps),
            "median seconds": seconds_text(row.median_seconds),
        }
        for row in points.sort_values(["workload", "entry", "trial"]).itertuples()
    ]
    return _tabulate(rows, "github", left=2)


def findings(table: pd.DataFrame, baseline: str, facts: Mapping[str, WorkloadFacts]) -> list[str]:
    """One sentence or two per workload and entry: who wins in steps, who in seconds, and why.

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
        return f"no target is set, so {ours} cannot be judged."
    if other is None:
        return f"{theirs} has no usable run to compare {ours} with."
    reached, other_reached = math.isfinite(row.median_steps), math.isfinite(other.median_steps)
    counts = (
        f"{ours} reached the target in {row.reached} of {row.studies} studies, "
        f"{theirs} in {other.reached} of {other.studies}"
    )
    if not reached and not other_reached:
        return f"neither median study of {ours} and {theirs} reaches the target ({counts})."
    if reached != other_reached:
        winner, loser, best = (ours, theirs, row) if reached else (theirs, ours, other)
        return (
            f"{winner} wins: it reaches the target in {steps_text(best.median_steps)} steps and "
            f"{seconds_text(best.median_seconds)} s, the median study of {loser} does not "
            f"({counts})."
        )
    clauses = [
        _steps_clause(row, other, ours, theirs, facts),
        _seconds_clause(row, other, ours, theirs),
    ]
    if row.reached < row.studies or other.reached < other.studies:
        clauses.append(f"{counts}.")
    return " ".join(clauses)


def _steps_clause(row: Any, other: Any, ours: str, theirs: str, facts: WorkloadFacts) -> str:
    verdict = _verdict(row.steps_ratio, ours, theirs)
    numbers = (
        f"({steps_text(row.median_steps)} against {steps_text(other.median_steps)}, "
        f"ratio {ratio_text(row.steps_ratio)})"
    )
    close = abs(row.median_steps - other.median_steps) <= facts.eval_period_steps
    doubt = (
        ", though by no more than one evaluation period" if close and row.steps_ratio != 1 else ""
    )
    return f"{verdict} in steps {numbers}{doubt}."


def _seconds_clause(row: Any, other: Any, ours: str, theirs: str) -> str:
    numbers = (
        f"({seconds_text(row.median_seconds)} s against {seconds_text(other.median_seconds)} s, "
        f"ratio {ratio_text(row.seconds_ratio)})"
    )
    cost = f"A step of {ours} costs {ratio_text(row.step_cost_ratio)} times one of {theirs}"
    if row.steps_ratio < 1 <= row.seconds_ratio:
        verdict = _verdict(row.seconds_ratio, ours, theirs)
        return f"{cost}, which costs it the lead: {verdict} in seconds {numbers}."
    if row.seconds_ratio < 1 <= row.steps_ratio:
        return f"{cost}, which turns the order: {ours} wins in seconds {numbers}."
    return f"{cost}; {_verdict(row.seconds_ratio, ours, theirs)} in seconds {numbers}."


def _verdict(ratio: float, ours: str, theirs: str) -> str:
    if ratio == 1:
        return f"{ours} and {theirs} are level"
    return f"{ours if ratio < 1 else theirs} wins"


def manifest_facts(manifest: Mapping[str, Any]) -> list[str]:
    """The manifest's plain values, and those one level below, as Markdown list items.

    Values of several invocations of a study stand side by side where they differ.

    >>> manifest_facts({"invocations": [{"commit": "1a", "seed": 0}, {"commit": "2b", "seed": 0}]})
    ['- commit: 1a; 2b', '- seed: 0']
    """
    invocations = manifest.get("invocations")
    records = invocations if isinstance(invocations, list) else [manifest]
    values: dict[str, list[str]] = {}
    for record in records:
        for key, value in record.items() if isinstance(record, Mapping) else ():
            text = " ".join(_plain_text(value).split())
            if text and text not in values.setdefault(key, []):
                values[key].append(text)
    return [f"- {key}: {'; '.join(texts)}" for key, texts in values.items() if texts]


def _plain_text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items() if _is_plain(item))
    if isinstance(value, list):
        return ", ".join(str(item) for item in value if _is_plain(item))
    return str(value) if _is_plain(value) else ""


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def _text(value: float, form: Any) -> str:
    if math.isnan(value):
        return UNKNOWN
    return NOT_REACHED if math.isinf(value) else str(form(value))


def _tabulate(rows: list[dict[str, Any]], fmt: str, left: int) -> str:
    align = ["left"] * left + ["right"] * (len(rows[0]) - left)
    return str(tabulate(rows, "keys", fmt, colalign=align, disable_numparse=True))
