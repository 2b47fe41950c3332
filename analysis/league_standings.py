"""Tables of the whole league: an entry a row, and a workload a row."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import style
from analysis.judgement import Judgement, medians_of, where_both_reach
from analysis.scoring import times_table
from common import documents

_UNITS = {"steps": "{:g}", "seconds": "{:.1f}"}


class Comparison(NamedTuple):
    """An entry beside a rival, on the workloads that both ran.

    Attributes:
      workloads: how many.
      own, other: targets that the entry's medians and the rival's reach.
      both: targets that both reach.
      steps, seconds: over these, the geometric mean of the entry's medians over the rival's; NaN
        where there are none.
    """

    workloads: int
    own: int
    other: int
    both: int
    steps: float
    seconds: float


def compared(judged: Judgement, hero: str, rival: str) -> Comparison:
    """An entry beside another one."""
    steps, seconds = (medians_of(judged, hero, column, rival) for column in _UNITS)
    own, other = np.isfinite(steps).sum()
    both, of_steps = where_both_reach(steps)
    return Comparison(len(steps), own, other, both, of_steps, where_both_reach(seconds)[1])


def standings(judged: Judgement, hero: str) -> str:
    """A row per entry, the best score first, with ratios of the hero's medians to the entry's.

    Args:
      judged: the league's judgement.
      hero: the entry that ratios are of, over the workloads on which both medians reach the target.
    """
    scores = judged.intervals.scores.set_index("submission")
    names = {column: f"{style.label(hero)}'s {column} / its" for column in _UNITS}
    rows = []
    for place, entry in enumerate(judged.entries, start=1):
        row = {
            "": str(place),
            "entry": style.label(entry),
            "targets reached": f"{scores.at[entry, 'reached']:.0f}",
            "score": _score(scores.loc[entry]),
        }
        beside_it = None if entry == hero else compared(judged, hero, entry)
        for column, name in names.items():
            row[name] = documents.UNKNOWN
            if beside_it is not None and beside_it.both:
                row[name] = f"{getattr(beside_it, column):.2f} over {beside_it.both}"
        rows.append(row)
    return documents.table(rows, left=2, fmt="pipe")


def leader(judged: Judgement, hero: str) -> str:
    """Whose score is the highest, and the hero's, with their intervals."""
    scores = judged.intervals.scores.set_index("submission")

    def said(entry: str) -> str:
        return f"{style.label(entry)} with {_score(scores.loc[entry])}"

    first, *others = judged.entries
    own = ", ".join(said(entry) for entry in others if entry == hero)
    text = f"Of {len(judged.entries)} entries the benchmark's score puts first {said(first)}"
    return f"{text}; {own}" if own else text


def beside_best_rival(judged: Judgement, hero: str, without: Sequence[str] = ()) -> str:
    """A row per workload: the hero's median steps and seconds, and those of its fastest rival.

    Args:
      judged: the league's judgement.
      hero: an entry.
      without: entries that are no rivals.
    """
    own = style.label(hero)
    of_all = {column: times_table(judged.cells, f"median_{column}") for column in _UNITS}
    rows = []
    for workload in judged.facts:
        row = {"workload": workload}
        for column, unit in _UNITS.items():
            medians = of_all[column].loc[workload].sort_values(kind="stable")
            finite = medians[np.isfinite(medians)]
            row[f"{own}, {column}"] = unit.format(finite[hero]) if hero in finite else "missed"
            row[f"best rival, {column}"] = _first(
                finite.drop([hero, *without], errors="ignore"), unit
            )
        rows.append(row)
    return documents.table(rows, left=1, fmt="pipe")


def beside(judged: Judgement, hero: str, rival: str) -> str:
    """One line: targets that each reaches, and the hero's share of the rival's steps and time."""
    result = compared(judged, hero, rival)
    counts = (
        f"{style.label(rival)} reaches {result.other} of {result.workloads} targets, "
        f"{style.label(hero)} {result.own}"
    )
    if not result.both:
        return counts
    return (
        f"{counts}, which on the {result.both} that both reach takes {result.steps:.2f} of its "
        f"steps and {result.seconds:.2f} of its time"
    )


def _score(score: pd.Series) -> str:
    """A score and its interval."""
    return f"{score['score']:.2f} [{score['ci_low']:.2f}, {score['ci_high']:.2f}]"


def _first(ascending: pd.Series, unit: str) -> str:
    """The value of the first entry, and its name; all names that are level with it."""
    if ascending.empty:
        return "missed"
    level = ascending[ascending == ascending.iloc[0]]
    return f"{unit.format(level.iloc[0])} ({', '.join(map(style.label, level.index))})"
