"""What a comparison found: a row per variant and workload, as CSV, JSON and Markdown."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from common import documents
from scripts.compare.chain import NEAR, Chain, Outcome, Progress
from workloads.facts import WorkloadFacts


@dataclasses.dataclass(frozen=True)
class Row:
    """A variant on a workload; numbers are medians over the seeds at the chosen learning rate.

    Attributes:
      options: the variant's own, as JSON, with its schedule where that is not the cosine.
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


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))


def rows_of(chains: Sequence[Chain]) -> list[Row]:
    """A row per chain, in their order."""
    progress = {(chain.workload, chain.variant.name): chain.progress() for chain in chains}
    return [_row(chain, progress) for chain in chains]


def _row(chain: Chain, progress: Mapping[tuple[str, str], Progress]) -> Row:
    comparison, variant, workload = chain.comparison, chain.variant, chain.workload
    state, baseline = (
        progress[workload, variant.name],
        variant.baseline or comparison.baseline,
    )
    outcomes, budget = state.chosen, comparison.budget(workload)
    against = progress[workload, baseline].chosen if (workload, baseline) in progress else []
    median, near = median_steps(outcomes), median_steps(outcomes, near=True)
    ratio, bound = ratio_of(median, median_steps(against), budget)
    near_ratio, near_bound = ratio_of(near, median_steps(against, near=True), budget)
    rate = outcomes[0].learning_rate if outcomes else math.nan
    grid = comparison.learning_rates
    failures = dict.fromkeys(outcome.failure for outcome in state.outcomes() if outcome.failure)
    return Row(
        workload=workload,
        variant=variant.name,
        optimizer=variant.optimizer,
        options=json.dumps(variant.changes),
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
        milliseconds_per_step=documents.median(o.milliseconds_per_step for o in outcomes),
        failures="; ".join(failures),
    )


def median_steps(outcomes: Sequence[Outcome], near: bool = False) -> float:
    """Median steps to the target, or near it; infinite if half of the trials or more missed it."""
    steps = [outcome.steps_to_near if near else outcome.steps_to_target for outcome in outcomes]
    return documents.median([math.inf if s is None else s for s in steps] or [math.inf])


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
    key = documents.median(math.inf if math.isnan(key) else key for key in keys)
    # `sort_key` is its own inverse.
    return facts.sort_key(key) if math.isfinite(key) else math.nan


def as_cells(row: Row) -> dict[str, Any]:
    """A row for a CSV file: what is not a finite number is empty."""
    return {
        name: "" if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in dataclasses.asdict(row).items()
    }


def ratio_text(ratio: float, bound: str) -> str:
    """A ratio for people, such as "0.93" or "> 1.50"."""
    return f"{bound} {documents.number(ratio, '.2f')}".strip()


def _steps_text(row: Row, median: float) -> str:
    if row.failures and not row.seeds:
        return "failed"
    return "not reached" if math.isinf(median) else f"{median:g}"


def _median_text(row: Row) -> str:
    ratio = ratio_text(row.ratio, row.ratio_bound)
    return f"{_steps_text(row, row.median_steps)} ({ratio})"


def _near_text(row: Row) -> str:
    ratio = ratio_text(row.near_ratio, row.near_ratio_bound)
    return f"{_steps_text(row, row.near_median_steps)} ({ratio})"


def edges(rows: Sequence[Row], grid: Sequence[float]) -> list[str]:
    """A line for each variant whose best learning rate is at the edge of its grid; its best may lie
    beyond.

    Args:
      rows: as `rows_of` returns.
      grid: the learning rates that were tried. One alone has no edge: nothing was chosen.
    """
    lines = []
    for variant in dict.fromkeys(row.variant for row in rows):
        at_edge = [row for row in rows if row.variant == variant and row.at_edge]
        if at_edge:
            places = ", ".join(f"{row.workload} ({row.learning_rate:g})" for row in at_edge)
            lines.append(
                f"{variant}: the best learning rate is at the edge of the grid "
                f"({min(grid):g} to {max(grid):g}) on {places}; a wider grid may have a better one"
            )
    return lines


def markdown(rows: Sequence[Row]) -> str:
    """A table of ratios over workloads, and one of all numbers per workload."""
    summary: dict[str, dict[str, str]] = {}
    for row in rows:
        cells = summary.setdefault(row.variant, {"variant": row.variant, "against": row.baseline})
        cells[row.workload] = _median_text(row)
    title = "Median steps to the target (ratio to the baseline's)."
    parts = [title, documents.table(summary.values())]
    for workload in dict.fromkeys(row.workload for row in rows):
        table = [_cells(row) for row in rows if row.workload == workload]
        if not any(cells["failures"] for cells in table):
            for cells in table:
                del cells["failures"]
        parts += [f"## {workload}", documents.table(table)]
    return "\n\n".join([*parts, _LEGEND])


def _cells(row: Row) -> dict[str, str]:
    return {
        "variant": row.variant,
        "rate": documents.number(row.learning_rate, "g") + ("*" if row.at_edge else ""),
        "reached": f"{row.reached} of {row.seeds}",
        "steps per seed": row.steps,
        "median (ratio)": _median_text(row),
        "near (ratio)": _near_text(row),
        "best validation": documents.number(row.best_validation, ".5g"),
        "CPU ms per step": documents.number(row.milliseconds_per_step, ".1f"),
        "failures": row.failures,
    }


_LEGEND = f"""\
A seed that misses the target counts as infinite. In a ratio, a median that misses it counts as the
whole budget, which makes the ratio a bound. `near` is the median of steps to a value that is worse
than the target by {NEAR:.0%}, which is less a matter of luck. Trials stop at the target, so the
best validation value of one that reached it is about the target. `*` marks a learning rate at the
edge of the grid.
"""
