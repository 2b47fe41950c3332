"""Chooses the points of every entry without a workload, and looks at that workload.

    python -m scripts.league.held_out --search=results/league/search.csv --output=results/league

The five points of an entry are chosen on the workloads that they are then judged on. This repeats
the choice for every workload on the others alone, by the same rule, and compares what the workload
costs then: the steps of the best of the five, as a share of the step hint, 2 if all miss the
target. It also tells where the best of all points searched has the lowest or the highest learning
rate of them, so that a better one may lie outside the ranges. Writes held_out.csv, a row per entry
and workload, and held_out.md.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from absl import flags

from common import cli, documents, files
from common.cli import UserError
from scripts.local import manifest
from scripts.local.metrics_log import read_csv, write_csv
from scripts.local.search_table import COLUMNS as SEARCHED
from scripts.local.search_table import MISS, best_of, choose, costs_and_ranks

FLAGS = flags.FLAGS
COLUMNS = ("entry", "workload", "cost", "cost_held_out", "points_held_out", "best_rate")
INNER = "inner"


def rows_of(search: Path, count: int) -> list[dict[str, Any]]:
    """A row per entry and workload of a search; UserError if one was searched on less than two."""
    rows = []
    searched = read_csv(search, (*SEARCHED, "learning_rate"))
    for entry in dict.fromkeys(row["entry"] for row in searched):
        costs, ranks = costs_and_ranks(search, entry)
        of_entry = [row for row in searched if row["entry"] == entry]
        rates = {int(row["trial"]): float(row["learning_rate"]) for row in of_entry}
        if len(costs.columns) < 2:
            raise UserError(f"{search} has {entry!r} on one workload; two are needed to leave one")
        chosen = choose(costs, ranks, count)
        for workload in costs.columns:
            others = costs.columns.drop(workload)
            without = choose(costs[others], ranks[others], count)
            rows.append(
                {
                    "entry": entry,
                    "workload": workload,
                    "cost": costs.loc[chosen, workload].min(),
                    "cost_held_out": costs.loc[without, workload].min(),
                    "points_held_out": " ".join(map(str, without)),
                    "best_rate": best_rate(costs[workload], ranks[workload], rates),
                }
            )
    return rows


def best_rate(costs: pd.Series, ranks: pd.Series, rates: Mapping[int, float]) -> str:
    """Whether the best point has the `lowest` or `highest` rate of all, or an `inner` one.

    Args:
      costs, ranks: by the number of the point, on one workload.
      rates: learning rates by the number of the point.
    """
    ends = {min(rates.values()): "lowest", max(rates.values()): "highest"}
    return ends.get(rates[best_of(costs, ranks)], INNER)


def page(rows: Sequence[Mapping[str, Any]], count: int) -> str:
    """The document: mean costs of entries, the least first, with and without the workload."""
    entries = pd.DataFrame(rows).groupby("entry", sort=False)
    means, misses = (
        entries[["cost", "cost_held_out"]].agg(summary)
        for summary in (statistics.fmean, lambda costs: (costs == MISS).sum())
    )
    at_edge = entries["best_rate"].agg(lambda rates: (rates != INNER).sum())
    lines = [
        {
            "entry": entry,
            "mean cost": f"{mean['cost']:.3f}",
            "targets missed": misses.loc[entry, "cost"],
            "mean cost, held out": f"{mean['cost_held_out']:.3f}",
            "targets missed, held out": misses.loc[entry, "cost_held_out"],
            "best rate at an edge": at_edge[entry],
        }
        for entry, mean in means.sort_values("cost_held_out", kind="stable").iterrows()
    ]
    return (
        "# Points chosen without the workload that they are judged on\n\n"
        f"Best of {count} points in the search: steps to the target as a share of the step hint, "
        f"{MISS:g} where all miss; means over the workloads. Left: the points chosen on all "
        "workloads. Right: for every workload those chosen on the others. One seed. Last column: "
        "workloads on which the best of all points searched has the lowest or the highest learning "
        "rate of them. By `python -m scripts.league.held_out`. Stand-ins, not AlgoPerf.\n\n"
        f"{documents.table(lines)}\n"
    )


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("search", None, "search.csv of `scripts.tune`", required=True)
    flags.DEFINE_integer("points", 5, "points to choose", lower_bound=1)
    flags.DEFINE_string("output", None, "folder for the tables", required=True)


def main(argv: Sequence[str]) -> None:
    """Chooses and writes the tables."""
    del argv
    output = files.make_directory(Path(FLAGS.output))
    with manifest.recorded(output):
        rows = rows_of(Path(FLAGS.search), FLAGS.points)
        write_csv(output / "held_out.csv", rows, COLUMNS)
        files.write_text(output / "held_out.md", page(rows, FLAGS.points))
    print(page(rows, FLAGS.points))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
