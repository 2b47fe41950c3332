"""Chooses an entry's short list of points from a search, by one rule for all entries.

    python -m scripts.choose_points --search=DIR/search.csv --ranges=ranges.json --entry=adamw \\
      --points=5 --output=workloads/standin/points/adamw.json

A list costs, on each workload, what its best point costs: the steps to the validation target
divided by the step hint, or 2 if no point reaches it. Points are added one at a time, each the one
that lowers the mean cost over workloads most; equal ones are told apart by the mean over workloads
of the best rank, among all points searched, of the best validation value; then by the mean of the
candidate's own ranks; then by their number.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import cli, files
from common.cli import UserError
from scripts import search
from scripts.local.metrics_log import read_csv
from workloads import registry, search_space
from workloads.search_space import Point

FLAGS = flags.FLAGS
MISS = 2.0


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("search", None, "search.csv of scripts.search", required=True)
    flags.DEFINE_string("ranges", None, "the JSON file it was drawn from", required=True)
    flags.DEFINE_string("entry", None, "entry to choose for", required=True)
    flags.DEFINE_integer("points", 5, "points to choose", lower_bound=1)
    flags.DEFINE_string("output", None, "JSON file to write the points to", required=True)


def main(argv: Sequence[str]) -> int:
    """Writes the chosen points and prints what they cost."""
    del argv
    table, output = Path(FLAGS.search), Path(FLAGS.output)
    outcomes = read_outcomes(table, FLAGS.entry)
    numbers = sorted(next(iter(outcomes.values())))
    if FLAGS.points > len(numbers):
        raise UserError(f"--points={FLAGS.points}: {table} has {len(numbers)} points")
    ranges = search_space.ranges_by_entry(Path(FLAGS.ranges), [FLAGS.entry])[FLAGS.entry]
    drawn = search_space.draw(ranges, max(numbers))
    check_drawn(table, FLAGS.entry, drawn)
    chosen = choose(outcomes, FLAGS.points)
    files.make_directory(output.parent)
    files.write_json(output, [drawn[number - 1] for number in chosen])
    for count in range(1, len(chosen) + 1):
        costs = {w: min(of[n].cost for n in chosen[:count]) for w, of in outcomes.items()}
        each = ", ".join(f"{workload} {cost:.3f}" for workload, cost in costs.items())
        print(f"trial {chosen[count - 1]}: cost so far {_mean(costs.values()):.3f} ({each})")
    print(f"wrote {output}")
    return 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one point did on one workload.

    Attributes:
      cost: steps to the target divided by the step hint, or MISS.
      rank: share of the searched points with a better validation value, from 0 to 1.
    """

    cost: float
    rank: float


Outcomes = dict[str, dict[int, Outcome]]


def read_outcomes(path: Path, entry: str) -> Outcomes:
    """Outcomes by workload and trial number; UserError if workloads lack some of the points."""
    steps: dict[str, dict[int, float]] = {}
    values: dict[str, dict[int, float]] = {}
    for line, row in enumerate(read_csv(path, search.COLUMNS), start=2):
        if row["entry"] != entry:
            continue
        try:
            trial = int(row["trial"])
            taken = float(row["steps_to_target"] or math.inf)
            best = float(row["best_validation"])
        except ValueError as error:
            raise UserError(f"{path} is damaged: line {line}: {error}") from error
        facts = registry.facts(row["workload"])
        steps.setdefault(row["workload"], {})[trial] = taken / facts.step_hint
        values.setdefault(row["workload"], {})[trial] = (
            facts.sort_key(best) if math.isfinite(best) else math.inf
        )
    if not steps:
        raise UserError(f"{path} has no rows for entry {entry!r}")
    everywhere = set().union(*steps.values())
    for workload, of in steps.items():
        if missing := everywhere - set(of):
            raise UserError(f"{path} lacks trial {min(missing)} of {entry!r} on {workload!r}")
    return {
        workload: {
            trial: Outcome(
                cost if math.isfinite(cost) else MISS,
                sum(other < values[workload][trial] for other in values[workload].values())
                / len(of),
            )
            for trial, cost in of.items()
        }
        for workload, of in steps.items()
    }


def choose(outcomes: Outcomes, count: int) -> list[int]:
    """The numbers of `count` points, in the order in which they were chosen."""
    chosen: list[int] = []
    candidates = sorted(next(iter(outcomes.values())))

    def mean_of_best(key: Callable[[Outcome], float], numbers: Sequence[int]) -> float:
        return _mean(min(key(of[number]) for number in numbers) for of in outcomes.values())

    def score(number: int) -> tuple[float, float, float, int]:
        numbers = [*chosen, number]
        cost = mean_of_best(lambda outcome: outcome.cost, numbers)
        rank = mean_of_best(lambda outcome: outcome.rank, numbers)
        return cost, rank, mean_of_best(lambda outcome: outcome.rank, [number]), number

    while len(chosen) < count:
        chosen.append(min((n for n in candidates if n not in chosen), key=score))
    return chosen


def check_drawn(path: Path, entry: str, drawn: Sequence[Point]) -> None:
    """UserError if the search used other points than these."""
    for row in read_csv(path, search.COLUMNS):
        if row["entry"] == entry:
            _check_row(path, row, drawn[int(row["trial"]) - 1])


def _check_row(path: Path, row: Mapping[str, str], point: Point) -> None:
    for name, value in point.items():
        if row.get(name) != str(value):
            raise UserError(
                f"{path}: trial {row['trial']} of {row['entry']!r} has {name}={row.get(name)}, "
                f"the ranges give {value}; pass the --ranges of that search"
            )


def _mean(values: Any) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
