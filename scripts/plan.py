"""Which trials a study consists of, in the order in which they run."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.cli import UserError
from scripts import search_space
from scripts.metrics_log import read_csv
from scripts.trial import Trial

# Trial numbers by (entry, workload).
Choice = Mapping[tuple[str, str], Sequence[int]]


def trials_of(
    studies: Sequence[int],
    points: Mapping[str, Sequence[search_space.Point]],
    choice: Choice,
    seed: int,
    max_steps: Mapping[str, int] | None = None,
    ignore_targets: bool = False,
) -> list[Trial]:
    """All chosen trials, ordered by study, workload, trial, entry.

    Entries alternate, so whatever disturbs the machine for a while disturbs all of them alike.

    Args:
      points: each entry's points, by entry; trial n takes the n-th.
      choice: trial numbers by entry and workload, in the order of the plan's workloads.
      max_steps: step budgets by workload, where not the step hint.
    """
    workloads = list(dict.fromkeys(workload for _, workload in choice))
    planned = []
    for study in studies:
        for workload in workloads:
            chosen = {entry: choice.get((entry, workload), ()) for entry in points}
            for number in sorted({number for numbers in chosen.values() for number in numbers}):
                for entry in points:
                    if number not in chosen[entry]:
                        continue
                    if not 1 <= number <= len(points[entry]):
                        raise UserError(
                            f"trial {number}: entry {entry!r} has points 1 to {len(points[entry])}"
                        )
                    planned.append(
                        Trial(
                            workload=workload,
                            entry=entry,
                            study=study,
                            trial=number,
                            hyperparameters=points[entry][number - 1],
                            seed=seed,
                            max_steps=(max_steps or {}).get(workload),
                            ignore_targets=ignore_targets,
                        )
                    )
    return planned


def best_trials(path: Path, entries: Sequence[str], workloads: Sequence[str]) -> Choice:
    """Each entry's best trial per workload according to a report's points.csv.

    The best has the smallest median steps to the target, then the smallest median time, then the
    smallest number. Where no median reaches it: the one with most studies that did, then the
    smallest number. UserError if the table is damaged or lacks an entry and workload.
    """
    columns = ["entry", "workload", "trial", "reached", "median_steps", "median_seconds"]
    ranked: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for line, row in enumerate(read_csv(path, columns), start=2):
        try:
            number = int(row["trial"])
            reached, steps, seconds = (float(row[name]) for name in columns[3:])
        except ValueError as error:
            raise UserError(f"{path} is damaged: line {line}: {error}") from error
        if math.isfinite(steps):
            rank = (0.0, steps, seconds, number)
        else:
            rank = (1.0, -reached, 0.0, number)
        ranked.setdefault((row["entry"], row["workload"]), []).append(rank)
    choice = {}
    for workload in workloads:
        for entry in entries:
            if (entry, workload) not in ranked:
                raise UserError(f"{path} has no row for entry {entry!r} on workload {workload!r}")
            choice[entry, workload] = [int(min(ranked[entry, workload])[-1])]
    return choice
