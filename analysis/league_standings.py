"""Tables of the whole league: an entry a row, and a workload a row."""

import numpy as np
import pandas as pd

from analysis import style
from analysis.judgement import Judgement, where_both_reach
from common import documents

_UNITS = {"steps": "{:.0f}", "seconds": "{:.1f}"}


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
        score = scores.loc[entry]
        row = {
            "": str(place),
            "entry": style.label(entry),
            "targets reached": f"{score['reached']:.0f}",
            "score": f"{score['score']:.2f} [{score['ci_low']:.2f}, {score['ci_high']:.2f}]",
        }
        for column, name in names.items():
            number, ratio = where_both_reach(_medians(judged, column)[[hero, entry]])
            known = number and entry != hero
            row[name] = f"{ratio:.2f} over {number}" if known else documents.UNKNOWN
        rows.append(row)
    return documents.table(rows, left=2, fmt="pipe")


def leader(judged: Judgement, hero: str) -> str:
    """Whose score is the highest, and the hero's, with their intervals."""
    scores = judged.intervals.scores.set_index("submission")

    def said(entry: str) -> str:
        score = scores.loc[entry]
        interval = f"[{score['ci_low']:.2f}, {score['ci_high']:.2f}]"
        return f"{style.label(entry)} with {score['score']:.2f} {interval}"

    first, *others = judged.entries
    own = ", ".join(said(entry) for entry in others if entry == hero)
    text = f"Of {len(judged.entries)} entries the benchmark's score puts first {said(first)}"
    return f"{text}; {own}" if own else text


def beside_best_rival(judged: Judgement, hero: str) -> str:
    """A row per workload: the hero's median steps and seconds, and those of its fastest rival."""
    own = style.label(hero)
    rows = []
    for workload in judged.facts:
        row = {"workload": workload}
        for column, unit in _UNITS.items():
            medians = _medians(judged, column).loc[workload].sort_values(kind="stable")
            finite = medians[np.isfinite(medians)]
            row[f"{own}, {column}"] = unit.format(finite[hero]) if hero in finite else "missed"
            row[f"best rival, {column}"] = _first(finite.drop(hero, errors="ignore"), unit)
        rows.append(row)
    return documents.table(rows, left=1, fmt="pipe")


def beside(judged: Judgement, hero: str, rival: str) -> str:
    """One line: targets that each reaches, and the hero's share of the rival's steps and time."""
    steps, seconds = (_medians(judged, column)[[hero, rival]] for column in _UNITS)
    own, other = np.isfinite(steps).sum()
    counts = (
        f"{style.label(rival)} reaches {other} of {len(steps)} targets, {style.label(hero)} {own}"
    )
    both, of_steps = where_both_reach(steps)
    if not both:
        return counts
    _, of_seconds = where_both_reach(seconds)
    return (
        f"{counts}, which on the {both} that both reach takes {of_steps:.2f} of its steps and "
        f"{of_seconds:.2f} of its time"
    )


def _first(ascending: pd.Series, unit: str) -> str:
    """The value of the first entry, and its name; all names that are level with it."""
    if ascending.empty:
        return "missed"
    level = ascending[ascending == ascending.iloc[0]]
    return f"{unit.format(level.iloc[0])} ({', '.join(map(style.label, level.index))})"


def _medians(judged: Judgement, column: str) -> pd.DataFrame:
    """Medians over studies, workload by entry; infinite where one misses the target."""
    return judged.cells.pivot(index="workload", columns="submission", values=f"median_{column}")
