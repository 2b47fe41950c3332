"""Quasi-random search: the same number of points drawn from ranges, for each entry and workload.

    python -m scripts.search --entries=shampoo,adamw --ranges=ranges.json --trials=40 --output=DIR

The ranges file holds `{"learning_rate": {"min": ...}, ...}` for all entries, or one such object per
entry. Writes DIR/search.csv, one row per trial: the best validation value, its step, and the first
evaluated step that met the workload's validation target. A larger --trials extends a search.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import cli, files
from common.cli import UserError
from scripts import study
from scripts.local import plan as plans
from scripts.local.metrics_log import Row, read_csv, read_evaluations, write_csv
from scripts.local.trial import Trial
from workloads import registry, search_space
from workloads.facts import WorkloadFacts
from workloads.search_space import Point, Ranges

FLAGS = flags.FLAGS
TABLE = "search.csv"
COLUMNS = (
    "workload",
    "entry",
    "trial",
    "best_validation",
    "best_step",
    "steps_to_target",
    "steps",
    "seconds",
)


def define_flags() -> None:
    """Declares the command line."""
    study.define_plan_flags()
    study.define_machine_flags()
    flags.DEFINE_string("ranges", None, "JSON file with the ranges", required=True)
    flags.DEFINE_integer("trials", 20, "points per entry and workload", lower_bound=1)
    flags.DEFINE_bool("ignore_targets", False, "train on after both targets are met")
    flags.adopt_module_key_flags(study)  # so that --help lists them


def main(argv: Sequence[str]) -> int:
    """Runs the search that the flags describe; 1 if a trial failed or its log is damaged."""
    del argv
    workloads, entries = study.names_from_flags()
    search = Search(
        workloads=tuple(workloads),
        ranges=search_space.ranges_by_entry(Path(FLAGS.ranges), entries),
        count=FLAGS.trials,
        seed=FLAGS.seed,
        ignore_targets=FLAGS.ignore_targets,
    )
    output = Path(FLAGS.output)
    study.print_caveats(workloads)
    if FLAGS.dry_run:
        study.print_plan(search.trials(), output)
        return 0
    code = search.run(output, study.machine_from_flags())
    rows, problems = rows_of(search.trials(), output)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    write_table(output / TABLE, rows)
    print(f"wrote {output / TABLE}: {len(rows)} trials")
    return code or int(bool(problems))


@dataclasses.dataclass(frozen=True)
class Search:
    """What to search.

    Attributes:
      ranges: by entry.
      count: points per entry and workload, trials 1 to `count` of study 0.
      max_steps: step budgets by workload, where not the step hint.
    """

    workloads: tuple[str, ...]
    ranges: Mapping[str, Ranges]
    count: int
    seed: int
    max_steps: Mapping[str, int] = dataclasses.field(default_factory=dict)
    ignore_targets: bool = False

    def points(self) -> dict[str, list[Point]]:
        """The drawn points of each entry."""
        return {
            entry: search_space.draw(ranges, self.count) for entry, ranges in self.ranges.items()
        }

    def trials(
        self, studies: Sequence[int] = (0,), choice: plans.Choice | None = None
    ) -> list[Trial]:
        """All points in study 0, or the chosen ones in other studies."""
        numbers = range(1, self.count + 1)
        everything = {(e, w): numbers for w in self.workloads for e in self.ranges}
        return plans.trials_of(
            studies,
            self.points(),
            everything if choice is None else choice,
            self.seed,
            self.max_steps,
            self.ignore_targets,
        )

    def run(
        self,
        output: Path,
        machine: study.Machine,
        planned: Sequence[Trial] | None = None,
    ) -> int:
        """Runs `planned`, by default all trials; 1 if one failed, else 0."""
        planned = self.trials() if planned is None else planned
        spaces = write_spaces(self.points(), output)
        return study.report(study.run_study(planned, spaces, output, machine), planned, output)


def write_spaces(points: Mapping[str, list[Point]], output: Path) -> dict[str, Path]:
    """Writes each entry's points as a search space; UserError if other ones are there already."""
    folder = files.make_directory(output / "search_spaces")
    paths = {}
    for entry, drawn in points.items():
        path = paths[entry] = folder / f"{entry}.json"
        present = search_space.points(path) if path.exists() else []
        common = min(len(present), len(drawn))
        if present[:common] != drawn[:common]:
            raise UserError(f"{path} was drawn from other ranges; choose another --output")
        if len(drawn) > len(present):
            files.write_json(path, drawn)
    return paths


def best_evaluation(evaluations: Sequence[Row], facts: WorkloadFacts, split: str) -> Row | None:
    """The first evaluation with the best finite value of the target's metric, if there is one."""
    name = f"{split}/{facts.metric}"
    finite = [row for row in evaluations if math.isfinite(row[name])]
    return min(finite, key=lambda row: facts.sort_key(row[name]), default=None)


def rows_of(
    planned: Sequence[Trial], output: Path, targets: bool = True
) -> tuple[list[dict[str, Any]], list[str]]:
    """A row per finished trial, and a line for each trial whose log cannot be used.

    Args:
      targets: whether to look for the first step that met the validation target.
    """
    rows, problems = [], []
    for trial in planned:
        directory = trial.directory(output)
        facts = registry.facts(trial.workload)
        metric = f"validation/{facts.metric}"
        try:
            evaluations = read_evaluations(directory, [metric])
        except UserError as error:
            problems.append(str(error))
            continue
        best = best_evaluation(evaluations, facts, "validation")
        target = facts.validation_target if targets else None
        met = [row["global_step"] for row in evaluations if facts.meets(row[metric], target)]
        rows.append(
            {
                "workload": trial.workload,
                "entry": trial.entry,
                "trial": trial.trial,
                "best_validation": best[metric] if best else math.nan,
                "best_step": int(best["global_step"]) if best else "",
                "steps_to_target": int(met[0]) if met else "",
                "steps": int(evaluations[-1]["global_step"]),
                "seconds": evaluations[-1]["score"],
                **trial.hyperparameters,
            }
        )
    return rows, problems


def write_table(
    path: Path, rows: Sequence[Mapping[str, Any]], key: Sequence[str] = ("workload", "entry")
) -> None:
    """Writes search.csv; rows that it holds already for other values of `key` are kept."""
    written = {tuple(row[name] for name in key) for row in rows}
    present = read_csv(path, COLUMNS) if path.exists() else []
    kept = [
        {name: value for name, value in row.items() if value != ""}
        for row in present
        if tuple(row[name] for name in key) not in written
    ]
    write_csv(path, [*kept, *rows], COLUMNS)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
