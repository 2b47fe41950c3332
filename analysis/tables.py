"""The numbers for people, as Markdown tables and lists."""

import html
import itertools
import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis import cuts, style
from analysis.judgement import Judgement, medians_of, where_both_reach
from analysis.scoring import times_table
from analysis.texts import (
    CUT,
    NOT_REACHED,
    interval_text,
    ratio_text,
    reached_text,
    runs_text,
    seconds_text,
    steps_text,
)
from common import documents
from common.documents import UNKNOWN
from workloads.rulesets import STANDIN

_NO_ENDS = (math.nan, math.nan)


def scores_table(judged: Judgement, fmt: str = "pipe") -> str:
    """Every submission's score, and its times relative to the baseline's, for people.

    Args:
      judged: the logs' judgement.
      fmt: a format of `tabulate`.
    """
    scores = judged.intervals.scores.set_index("submission")
    bases = len(judged.rules.base_workloads)
    rows = []
    for name in judged.entries:
        row = scores.loc[name]
        cells: dict[str, Any] = {
            "entry": style.label(name),
            "score": f"{row['score']:.4f}",
            "95% interval": _ends_text(row["ci_low"], row["ci_high"]),
            "targets reached": f"{int(row['reached'])} of {bases}",
            "studies": int(row["studies"]),
        }
        if judged.baseline is not None:
            cells[f"time / {style.label(judged.baseline)}"] = mean_text(judged, name)
        rows.append(cells)
    return _table(rows, fmt, left=1)


def mean_text(judged: Judgement, name: str) -> str:
    """The geometric mean of an entry's time ratios, and over which of how many workloads it is.

    By the official rules, over all base workloads that the entry or the baseline has run, with a
    miss counted as a second more than the budget. The budgets of stand-ins are many times what any
    run needs, so a miss would decide the mean: there it is over the workloads on which both medians
    reach the target, without an interval.
    """
    mean = judged.intervals.speedups.set_index("submission").loc[name]
    if judged.rules.version != STANDIN:
        text = interval_text(mean["ratio"], mean["ci_low"], mean["ci_high"])
        return f"{text} over {int(mean['workloads'])}"
    both, mean_ratio = where_both_reach(medians_of(judged, name, "seconds"))
    return f"{ratio_text(mean_ratio)} over {both} of {len(judged.facts)}"


def summary_table(
    judged: Judgement, fmt: str = "pipe", *, brief: bool = False, workload: str | None = None
) -> str:
    """The table of `summary_rows`.

    Args:
      judged: the logs' judgement.
      fmt: a format of `tabulate`.
      brief: whether it must fit a terminal.
      workload: the only one that is shown, then without a column of its own, nor one for the
        trials if `common_runs` says them.
    """
    rows = summary_rows(judged, brief=brief)
    if workload is None:
        return _table(rows, fmt, left=2)
    of_workload = judged.cells[judged.cells["workload"] == workload]
    hidden = ("workload", "trials") if common_runs(of_workload) else ("workload",)
    shown = [row for row in rows if row["workload"] == workload]
    return _table([without(row, hidden) for row in shown], fmt, left=1)


def without(row: Mapping[str, str], hidden: Collection[str]) -> dict[str, str]:
    """A row of a table without some columns."""
    return {name: text for name, text in row.items() if name not in hidden}


def summary_rows(judged: Judgement, *, brief: bool = False) -> list[dict[str, str]]:
    """Time to target of every submission on every workload, for people.

    Args:
      judged: the logs' judgement.
      brief: whether relative figures have columns of their own, and there are no trials.
    """
    cells = {(row.workload, row.submission): row for row in judged.cells.itertuples()}
    known = {(row.workload, row.submission): row for row in judged.intervals.ratios.itertuples()}
    against = None if judged.baseline is None else style.label(judged.baseline)
    cut = cuts.cut_texts(judged.trials, judged.facts)
    rows = []
    for key in itertools.product(judged.facts, judged.entries):
        if key not in cells:
            continue
        row = cells[key]
        columns = {"workload": row.workload, "entry": style.label(row.submission)}
        if not brief:
            columns["trials"] = runs_text(row.points, row.studies, row.runs, row.unfinished)
        columns["reached"] = reached_text(row.reached, row.studies, row.cut)
        comparable = row.submission not in judged.other_steps
        missed = cut.get((row.submission, row.workload), CUT) if row.cut else NOT_REACHED
        columns |= _measures(row, known.get(key), comparable, against, brief, missed)
        if not brief:
            columns["best point per study"] = row.best_trials
        rows.append(columns)
    return rows


def common_runs(cells: pd.DataFrame) -> str:
    """How often all entries ran, as `texts.runs_text` says it; empty if not equally often."""
    texts = {
        runs_text(row.points, row.studies, row.runs, row.unfinished) for row in cells.itertuples()
    }
    return texts.pop() if len(texts) == 1 else ""


def _measures(
    row: Any, ratio: Any, comparable: bool, against: str | None, brief: bool, missed: str
) -> dict[str, str]:
    """Steps, seconds and cost of one cell, and what they are relative to the baseline's.

    Args:
      row: of the judgement's cells.
      ratio: of its ratios, None where there is none.
      comparable: whether its steps are counted as the baseline's.
      against: the baseline's label, None without one.
      brief: whether relative figures have columns of their own, and no intervals.
      missed: what is said of a median that misses the target.
    """
    steps = row.steps_ratio if comparable else math.nan
    seconds, low, high = (
        (math.nan,) * 3 if ratio is None else (ratio.ratio, ratio.ci_low, ratio.ci_high)
    )
    if brief:
        low = high = math.nan
    measures = (
        ("steps", "steps", steps_text(row.median_steps, missed), interval_text(steps, *_NO_ENDS)),
        (
            "seconds",
            "seconds",
            seconds_text(row.median_seconds, CUT if row.cut else NOT_REACHED),
            interval_text(seconds, low, high),
        ),
        (
            "ms per step",
            "cost",
            ratio_text(1000 * row.steady_seconds_per_step),
            ratio_text(row.steady_cost_ratio),
        ),
    )
    # A dash says that there is none; where there is nothing to compare with, there is no dash.
    no_common_rate = math.isnan(row.steady_cost_ratio) and not math.isnan(row.pace_ratio)
    columns = {}
    for name, relative, text, exact in measures:
        known = exact != UNKNOWN or (no_common_rate and relative == "cost")
        if against is None:
            columns[name] = text
        elif brief:
            columns |= {name: text, f"{relative} / {against}": exact}
        else:
            columns[f"{name} (/ {against})"] = f"{text} ({exact})" if known else text
    return columns


def dropout_notes(judged: Judgement) -> list[str]:
    """Where times are at another dropout rate than the baseline's: a line per workload and rate."""
    if judged.baseline is None:
        return []
    against = style.label(judged.baseline)
    entries: dict[tuple[str, str, str], list[str]] = {}
    for workload in judged.facts:
        for name in judged.entries:
            if rates := judged.dropout.get((name, workload)):
                own, of_baseline = map(_rates, rates)
                names = entries.setdefault((workload, own, of_baseline), [])
                names.append(style.label(name))
    return [
        f"{workload}: the best trials of {', '.join(names)} drop out at {own}, {against}'s at "
        f"{of_baseline}; that is part of the steps and of the seconds."
        for (workload, own, of_baseline), names in entries.items()
    ]


def _rates(rates: Sequence[float]) -> str:
    return " and ".join(f"{rate:g}" for rate in rates)


def points_table(points: pd.DataFrame) -> str:
    """The table of `analysis.scoring.score_points`, for people."""
    rows = [
        {
            "workload": row.workload,
            "entry": style.label(row.entry),
            "point": row.trial,
            "reached": reached_text(row.reached, row.studies, row.cut),
            "median steps": steps_text(row.median_steps, CUT if row.cut else NOT_REACHED),
            "median seconds": seconds_text(row.median_seconds, CUT if row.cut else NOT_REACHED),
        }
        for row in points.sort_values(["workload", "entry", "trial"]).itertuples()
    ]
    return _table(rows, "pipe", left=2)


def places_table(judged: Judgement, name: str) -> str:
    """An entry's place among all on every base workload, and its distance from the fastest.

    Args:
      judged: the logs' judgement.
      name: the entry.
    """
    times = times_table(judged.cells)
    rows = []
    for workload in judged.rules.base_workloads:
        if workload not in times.index:
            continue
        row = times.loc[workload].dropna()
        seconds, fastest = float(row.get(name, math.inf)), float(row.min())
        reached = np.isfinite(row).sum()
        place = int((row < seconds).sum()) + 1
        rivals = row.drop(name, errors="ignore")
        lead = float(rivals.min()) / seconds if seconds == fastest and len(rivals) else math.nan
        rows.append(
            {
                "workload": workload,
                "place": f"{place} of {len(row)}" if math.isfinite(seconds) else "missed",
                "reach the target": f"{reached} of {len(row)}",
                "fastest": style.label(row.idxmin()) if math.isfinite(fastest) else UNKNOWN,
                "time / fastest": ratio_text(seconds / fastest) if reached else UNKNOWN,
                "second / first": ratio_text(lead) if math.isfinite(seconds) else UNKNOWN,
            }
        )
    return _table(rows, "pipe", left=1)


def escape(text: str) -> str:
    """Text from outside, so that it is neither markup nor the end of a table's cell.

    >>> escape("a <b> | c")
    'a &lt;b&gt; \\\\| c'
    """
    return html.escape(text, quote=False).replace("|", "\\|")


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


def _ends_text(low: float, high: float) -> str:
    return UNKNOWN if math.isnan(low) else f"{low:.2f} to {high:.2f}"


def _table(rows: list[dict[str, Any]], fmt: str, left: int) -> str:
    # Markdown knows no headers of several lines; a terminal has no room for long ones.
    headers = {
        name: escape(name) if fmt == "pipe" else textwrap.fill(name, 10, break_long_words=False)
        for name in rows[0]
    }
    if fmt == "pipe":
        rows = [{name: escape(str(text)) for name, text in row.items()} for row in rows]
    return documents.table(rows, headers, fmt, left)
