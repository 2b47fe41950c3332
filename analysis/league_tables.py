"""Sentences and tables of documents about the league's committed logs, so that they stay true."""

import functools
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis import style, tables
from analysis.choice import choose_rules
from analysis.headline import finding
from analysis.judgement import Judgement, judge
from analysis.league_standings import beside, beside_best_rival, leader, standings
from analysis.logs import read_logs
from analysis.texts import span_text
from common import documents
from common.cli import UserError
from scripts.league import cost
from scripts.local.metrics_log import read_csv

LEAGUE = Path(__file__).parents[1] / "results" / "league"
HERO, BASELINE = "shampoo", "adamw"
# The same evaluated at an average of its weights, for comparisons with all rivals.
BEST = "shampoo_ema"
_AVERAGES = (
    ("shampoo_ema", "shampoo"),
    ("adamw_ema", "adamw"),
    ("shampoo_ema", "adamw_ema"),
    ("shampoo_ema", "schedule_free_adamw"),
)
_FOR_EXPERTS = ("trials", "best point per study")
_CROWD, _KNOWN = 4, tuple(map(style.label, ("shampoo", "nadamw", "adamw")))


@functools.cache
def judged() -> Judgement:
    """The judgement of the committed study."""
    logs = read_logs(LEAGUE)
    rules, _ = choose_rules(logs)
    return judge(logs, rules, BASELINE, where=LEAGUE)


def study_table(pool: Judgement | None = None) -> str:
    """Of the report's times to target, what a reader of the README asks first.

    Of more than _CROWD entries, those alone that most readers know.

    Args:
      pool: the committed study by default.
    """
    pool = pool or judged()
    rows = [tables.without(row, _FOR_EXPERTS) for row in tables.summary_rows(pool)]
    crowded = len(pool.entries) > _CROWD
    shown = [row for row in rows if row["entry"] in _KNOWN or not crowded]
    return documents.table(shown, left=3, fmt="pipe")


def finding_text() -> str:
    """What the headlines of the committed study say, in seconds and in steps, and who leads."""
    texts = [finding(judged(), HERO, column).replace("\n", " ") for column in ("seconds", "steps")]
    return "\n".join(f"- {text}." for text in (*texts, leader(judged(), BEST)))


def losses_text(cells: pd.DataFrame | None = None) -> str:
    """Where the baseline is ahead: it alone reaches the target, or in fewer seconds or steps.

    Args:
      cells: as of a Judgement; those of the committed study by default.
    """
    table = (judged().cells if cells is None else cells).set_index(["submission", "workload"])
    hero, baseline = (table.loc[name] for name in (HERO, BASELINE))
    said = {
        column: [
            f"`{workload}`{_factor(hero.at[workload, name], baseline.at[workload, name])}"
            for workload in hero.index.intersection(baseline.index)
            if baseline.at[workload, name] < hero.at[workload, name]
        ]
        for column, name in (("seconds", "median_seconds"), ("steps", "median_steps"))
    }
    return "; ".join(
        f"in {column} {style.label(BASELINE)} is ahead on {', '.join(names) or 'none'}"
        for column, names in said.items()
    )


def _factor(value: float, baseline: float) -> str:
    return f" ({value / baseline:.2f})" if math.isfinite(value) else " (Shampoo misses)"


def cost_ratios(path: Path = LEAGUE / "step_cost.csv", entry: str = HERO) -> list[float]:
    """What an entry's training step costs by workload, relative to the baseline.

    Measured interleaved. UserError if the table has no rows of the entry.
    """
    rows = [row for row in read_csv(path, cost.COLUMNS) if row["entry"] == entry]
    if not rows:
        raise UserError(f"{path} has no rows of {entry}")
    return [float(row["ratio"]) for row in rows]


def costs_text(ratios: Sequence[float]) -> str:
    """The range and the mean, as a part of a sentence.

    >>> costs_text([1.0, 4.25])
    '1 to 4.25 times, geometric mean 2.06,'
    """
    mean = statistics.geometric_mean(ratios)
    return f"{span_text(ratios)} times, geometric mean {mean:.2f},"


def averages_text() -> str:
    """What averages of the weights change, with each method and beside the others."""
    return "\n".join(f"- {beside(judged(), *pair)}." for pair in _AVERAGES)


TABLES = {
    "gain": lambda: beside(judged(), HERO, BASELINE),
    "cost-range": lambda: span_text(cost_ratios()),
    "study": study_table,
    "muon": lambda: beside(judged(), BEST, "muon_adamw"),
    "schedule-free": lambda: beside(judged(), BEST, "schedule_free_adamw"),
    "standings": lambda: standings(judged(), BEST),
    "best-rival": lambda: beside_best_rival(judged(), BEST, without=(HERO,)),
    "finding": finding_text,
    "averages": averages_text,
    "losses": losses_text,
    "step-cost": lambda: costs_text(cost_ratios()),
    "schedule-free-cost": lambda: span_text(cost_ratios(entry="schedule_free_adamw")),
}
