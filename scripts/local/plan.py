"""Which trials a study consists of, in the order in which they run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import files
from common.cli import UserError
from scripts.local.metrics_log import read_csv
from scripts.local.trial import Trial, require_same
from workloads import search_space

# Trial numbers by (entry, workload).
Choice = Mapping[tuple[str, str], Sequence[int]]

# Schedules of baselines end at this share of the step budget, so that there is room to be slower.
SCHEDULE_FRACTION = 0.75


def all_points(
    workloads: Sequence[str], points: Mapping[str, Sequence[search_space.Point]]
) -> Choice:
    """Every point of every entry on every workload."""
    return {
        (entry, workload): range(1, len(points[entry]) + 1)
        for workload in workloads
        for entry in points
    }


def trials_of(
    studies: Sequence[int],
    points: Mapping[str, Sequence[search_space.Point]],
    choice: Choice,
    seed: int,
    max_steps: Mapping[str, int] | None = None,
    ignore_targets: bool = False,
    frameworks: Mapping[str, str] | None = None,
) -> list[Trial]:
    """All chosen trials, ordered by study, workload, trial, entry.

    Entries alternate, so whatever disturbs the machine for a while disturbs all of them alike.

    Args:
      points: each entry's points, by entry; trial n takes the n-th.
      choice: trial numbers by entry and workload, in the order of the plan's workloads.
      max_steps: step budgets by workload, where not the step hint.
      frameworks: of the entries, where not PyTorch.
    """
    for (entry, _), numbers in choice.items():
        for number in numbers:
            if not 1 <= number <= len(points[entry]):
                raise UserError(
                    f"trial {number}: entry {entry!r} has points 1 to {len(points[entry])}"
                )
    workloads = list(dict.fromkeys(workload for _, workload in choice))
    most = max((number for numbers in choice.values() for number in numbers), default=0)
    return [
        Trial(
            workload=workload,
            entry=entry,
            study=study,
            trial=number,
            hyperparameters=points[entry][number - 1],
            seed=seed,
            max_steps=(max_steps or {}).get(workload),
            ignore_targets=ignore_targets,
            framework=(frameworks or {}).get(entry, "pytorch"),
        )
        for study in studies
        for workload in workloads
        for number in range(1, most + 1)
        for entry in points
        if number in choice.get((entry, workload), ())
    ]


def best_trials(
    path: Path, points: Mapping[str, Sequence[search_space.Point]], workloads: Sequence[str]
) -> Choice:
    """Each entry's best trial per workload, as a report's points.csv marks it.

    UserError if the table is damaged, marks none for an entry and workload, or was made with
    another point than the entry's `points` now have under that number.
    """
    columns = ["entry", "workload", "trial", "best", "hyperparameters"]
    pairs = [(entry, workload) for workload in workloads for entry in points]
    best: dict[tuple[str, str], int] = {}
    for line, row in enumerate(read_csv(path, columns), start=2):
        if row["best"] not in ("True", "False") or not row["trial"].isdecimal():
            raise UserError(
                f"{path} is damaged: line {line}: trial must be a number, best True or False"
            )
        pair, number = (row["entry"], row["workload"]), int(row["trial"])
        if row["best"] != "True" or pair not in pairs:
            continue
        best[pair] = number
        current = points[row["entry"]]
        if row["hyperparameters"] and 1 <= number <= len(current):
            recorded = files.parse_json(row["hyperparameters"], f"{path}: line {line}")
            require_same(
                f"{path}: trial {number} of entry {row['entry']!r}",
                recorded,
                json.loads(json.dumps(current[number - 1])),
                remedy="choose --trials by number, or report on a study of the current points",
            )
    for entry, workload in pairs:
        if (entry, workload) not in best:
            raise UserError(f"{path} has no best row for entry {entry!r} on workload {workload!r}")
    return {pair: [best[pair]] for pair in pairs}
