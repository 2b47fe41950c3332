"""What a comparison found: a row per variant and workload, as CSV, JSON and Markdown."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from common import documents
from scripts.compare.chain import NEAR, Chain, Outcome, median_steps
from workloads.facts import WorkloadFacts

COLUMNS = (
    "workload",
    "variant",
    "optimizer",
    "options",
    "baseline",
    "learning_rate",
    "at_edge",
    "seeds",
    "reached",
    "steps",
    "median_steps",
    "ratio",
    "ratio_bound",
    "near_median_steps",
    "near_ratio",
    "near_ratio_bound",
    "best_validation",
    "milliseconds_per_step",
    "failures",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """A variant on a workload; numbers are medians over the seeds at the chosen learning rate.

    Attributes:
      options: the variant's own, as JSON.
      learning_rate: the chosen one, NaN if no rate gave a finite value.
      at_edge: whether that is the lowest or the highest of the grid.
      seeds: trials that ran at that rate, failed ones included.
      reached: how many of them met the target.
      steps: of each seed to the target, "-" where it was missed.
      median_steps: infinite if half of the seeds or more missed the target.
      ratio: to the baseline's `median_steps`, NaN where neither met the target.
      ratio_bound: "" if `ratio` is exact; ">" if the variant and "<" if the baseline missed the
        target, which then counts as the budget.
      near_median_steps, near_ratio, near_ratio_bound: the same for the value near the target.
      best_validation: of the target's metric.
      milliseconds_per_step: process CPU time of a training step.
      failures: of all trials, why they failed.
    """

    workload: str
    variant: str
    optimizer: str
    options: str
    baseline: str
    learning_rate: float
    at_edge: bool
    seeds: int
    reached: int
    steps: str
    median_steps: float
    ratio: float
    ratio_bound: str
    near_median_steps: float
    near_ratio: float
    near_ratio_bound: str
    best_validation: float
    milliseconds_per_step: float
    failures: str


def rows_of(chains: Sequence[Chain]) -> list[Row]:
    """A row per chain, in their order."""
    chosen = {(chain.workload, chain.variant.name): chain.chosen() for chain in chains}
    return [_row(chain, chosen) for chain in chains]


def _row(chain: Chain, chosen: dict[tuple[str, str], list[Outcome]]) -> Row:
    comparison, variant, workload = chain.comparison, chain.variant, chain.workload
    outcomes = chosen[workload, variant.name]
    baseline = comparison.baseline_of(variant)
    theirs, budget = chosen.get((workload, baseline), []), comparison.budget(workload)
    median, near = (median_steps(steps) for steps in _steps(outcomes))
    (ratio, bound), (near_ratio, near_bound) = (
        ratio_of(mine, median_steps(their_steps), budget)
        for mine, their_steps in zip((median, near), _steps(theirs), strict=True)
    )
    rate = outcomes[0].learning_rate if outcomes else math.nan
    grid = comparison.learning_rates
    everything = {id(outcome): outcome for outcome in [*chain.search(), *outcomes[1:]]}.values()
    failures = dict.fromkeys(outcome.failure for outcome in everything if outcome.failure)
    return Row(
        workload=workload,
        variant=variant.name,
        optimizer=variant.optimizer,
        options=json.dumps(dict(variant.options)),
        baseline=baseline,
        learning_rate=rate,
        at_edge=len(grid) > 1 and rate in (min(grid), max(grid)),
        seeds=len(outcomes),
        reached=sum(outcome.steps_to_target is not None for outcome in outcomes),
        steps=" ".join(str(outcome.steps_to_target or "-") for outcome in outcomes),
        median_steps=median,
        ratio=ratio,
        ratio_bound=bound,
        near_median_steps=near,
        near_ratio=near_ratio,
        near_ratio_bound=near_bound,
        best_validation=_best(outcomes, chain.facts),
        milliseconds_per_step=documents.median(
            [outcome.milliseconds_per_step for outcome in outcomes]
        ),
        failures="; ".join(failures),
    )


def _steps(outcomes: Sequence[Outcome]) -> tuple[list[int | None], list[int | None]]:
    """Steps to the target and to the value near it."""
    return (
        [outcome.steps_to_target for outcome in outcomes],
        [outcome.steps_to_near for outcome in outcomes],
    )


def ratio_of(median: float, against: float, budget: int) -> tuple[float, str]:
    """Steps over the baseline's steps, and in what sense it is a bound.

    >>> ratio_of(50, 100, 200), ratio_of(math.inf, 100, 200), ratio_of(50, math.inf, 200)
    ((0.5, ''), (2.0, '>'), (0.25, '<'))
    >>> ratio_of(math.inf, math.inf, 200)
    (nan, '')
    """
    if math.isinf(median) and math.isinf(against):
        return math.nan, ""
    bound = ">" if math.isinf(median) else "<" if math.isinf(against) else ""
    return min(median, budget) / min(against, budget), bound


def _best(outcomes: Sequence[Outcome], facts: WorkloadFacts) -> float:
    keys = [facts.sort_key(outcome.best) for outcome in outcomes]
    key = documents.median([math.inf if math.isnan(key) else key for key in keys])
    # `sort_key` is its own inverse.
    return facts.sort_key(key) if math.isfinite(key) else math.nan


_NUMBERS = ("learning_rate", "ratio", "near_ratio", "best_validation", "milliseconds_per_step")


def as_cells(row: Row) -> dict[str, Any]:
    """A row for a CSV file: what is not a finite number is empty."""
    return {
        name: "" if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in dataclasses.asdict(row).items()
    }


def from_cells(cells: dict[str, str]) -> Row:
    """The row that `as_cells` made these of, as `csv` reads them."""
    values: dict[str, Any] = dict(cells)
    for name in _NUMBERS:
        values[name] = float(cells[name] or "nan")
    for name in ("median_steps", "near_median_steps"):
        values[name] = float(cells[name] or "inf")
    values["at_edge"] = cells["at_edge"] == "True"
    values |= {name: int(cells[name]) for name in ("seeds", "reached")}
    return Row(**values)


def ratio_text(row: Row) -> str:
    """The ratio to the target for people, such as "0.93" or "> 1.50"."""
    return _ratio(row.ratio, row.ratio_bound)


def near_ratio_text(row: Row) -> str:
    """The ratio to the value near the target for people."""
    return _ratio(row.near_ratio, row.near_ratio_bound)


def _ratio(ratio: float, bound: str) -> str:
    return f"{bound} {documents.number(ratio, '.2f')}".strip()


def _steps_text(row: Row, median: float) -> str:
    if row.failures and not row.seeds:
        return "failed"
    return "not reached" if math.isinf(median) else f"{median:g}"


def markdown(rows: Sequence[Row]) -> str:
    """A table of ratios over workloads, and one of all numbers per workload."""
    workloads = list(dict.fromkeys(row.workload for row in rows))
    by = {(row.variant, row.workload): row for row in rows}
    summary = []
    for variant in dict.fromkeys(row.variant for row in rows):
        found = [by[variant, workload] for workload in workloads if (variant, workload) in by]
        cells = {
            row.workload: f"{_steps_text(row, row.median_steps)} ({ratio_text(row)})"
            for row in found
        }
        summary.append({"variant": variant, "against": found[0].baseline, **cells})
    parts = ["Median steps to the target (ratio to the baseline's).", documents.table(summary)]
    for workload in workloads:
        table = [
            {
                "variant": row.variant,
                "rate": documents.number(row.learning_rate, "g") + ("*" if row.at_edge else ""),
                "reached": f"{row.reached} of {row.seeds}",
                "steps per seed": row.steps,
                "median": _steps_text(row, row.median_steps),
                "ratio": ratio_text(row),
                "near": _steps_text(row, row.near_median_steps),
                "near ratio": near_ratio_text(row),
                "best validation": documents.number(row.best_validation, ".5g"),
                "CPU ms per step": documents.number(row.milliseconds_per_step, ".1f"),
                "failures": row.failures,
            }
            for row in rows
            if row.workload == workload
        ]
        if not any(row["failures"] for row in table):
            for row in table:
                del row["failures"]
        parts += [f"## {workload}", documents.table(table)]
    return "\n\n".join([*parts, _LEGEND])


_LEGEND = f"""\
A seed that misses the target counts as infinite. In a ratio, a median that misses it counts as the
whole budget, which makes the ratio a bound. `near` is the median of steps to a value that is worse
than the target by {NEAR:.0%}, which is less a matter of luck. Trials stop at the target, so the
best validation value of one that reached it is about the target. `*` marks a learning rate at the
edge of the grid.
"""
