"""The numbers for people, as Markdown tables and lists."""

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import pandas as pd
from tabulate import tabulate

from analysis import style

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


def runs_text(points: int, studies: int, runs: int, unfinished: int) -> str:
    """How often an entry ran on a workload: points x studies, and what is missing of that.

    >>> runs_text(5, 3, 15, 0), runs_text(5, 3, 14, 1)
    ('5 x 3', '14 of 5 x 3, 1 unfinished')
    """
    whole = f"{points} x {studies}"
    text = whole if runs == points * studies else f"{runs} of {whole}"
    return f"{text}, {unfinished} unfinished" if unfinished else text


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
            "trials": runs_text(row.points, row.studies, row.runs, row.unfinished),
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
    # Markdown knows no headers of several lines; a terminal has no room for long ones.
    wrap = (lambda name: name) if fmt == "github" else (lambda name: textwrap.fill(name, 10))
    headers = {name: wrap(name) for name in rows[0]}
    align = ["left"] * left + ["right"] * (len(rows[0]) - left)
    return str(tabulate(rows, headers, fmt, colalign=align, disable_numparse=True))
