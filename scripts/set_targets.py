"""Sets the stand-ins' targets as AlgoPerf sets its own, from standard algorithms alone.

    python -m scripts.set_targets --trials=20 --seeds=5 --output=results/targets

For each workload, each algorithm of the ranges file gets the same number of quasi-random points,
with schedules of 0.75 of the step budget. The point with the best validation value of all is run
again with other seeds. The validation target is the median over these runs of the best validation
value; the test target is the worst, over the runs that achieved the validation target, of the best
test value. Writes targets.json, and search.csv and repeats.csv to the output.
"""

import datetime
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import cli, files
from common.cli import UserError
from scripts import study
from scripts.local import entries, environment
from scripts.local.metrics_log import read_evaluations
from scripts.local.trial import Trial
from scripts.search import TABLE, Search, best_evaluation, rows_of, write_table
from workloads import registry, search_space
from workloads.facts import WorkloadFacts
from workloads.standin.facts import TARGETS_FILE, read_targets

FLAGS = flags.FLAGS
RANGES = TARGETS_FILE.with_name("target_search_spaces.json")
REPEATS = "repeats.csv"

# The baselines' schedules end at this share of the step budget, so that there is room to be slower.
SCHEDULE_FRACTION = 0.75


def define_flags() -> None:
    """Declares the command line."""
    study.define_machine_flags()
    flags.DEFINE_list("workloads", registry.names("standin"), "workloads to set targets for")
    flags.DEFINE_integer("trials", 20, "points per algorithm and workload", lower_bound=1)
    flags.DEFINE_integer("seeds", 5, "runs of the best point", lower_bound=1)
    flags.DEFINE_string("ranges", str(RANGES), "JSON file with the ranges of each algorithm")
    flags.DEFINE_string("output", "results/targets", "folder for the tables")
    flags.DEFINE_string("logs", "runs/targets", "folder for the trials' logs")
    flags.DEFINE_string("targets_file", str(TARGETS_FILE), "JSON file for the targets")
    flags.adopt_module_key_flags(study)  # so that --help lists them


def main(argv: Sequence[str]) -> int:
    """Sets the targets that the flags describe; 1, and no targets, if a trial failed."""
    del argv
    workloads = tuple(dict.fromkeys(FLAGS.workloads))
    if not workloads:
        raise UserError("--workloads is empty")
    search = target_search(workloads, Path(FLAGS.ranges), FLAGS.trials, FLAGS.seed)
    logs, output = Path(FLAGS.logs), Path(FLAGS.output)
    if FLAGS.dry_run:
        study.print_plan(search.trials(), logs)
        print(f"then {FLAGS.seeds} runs of the best point of each workload")
        return 0
    targets_file = Path(FLAGS.targets_file)
    for folder in (output, targets_file.parent):
        files.make_directory(folder)
    return set_targets(search, FLAGS.seeds, logs, output, targets_file, study.machine_from_flags())


def target_search(workloads: tuple[str, ...], ranges: Path, count: int, seed: int) -> Search:
    """The search that targets are set from; every entry named in the ranges file takes part."""
    steps = {name: int(SCHEDULE_FRACTION * registry.facts(name).step_hint) for name in workloads}
    content = files.read_json(ranges)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{ranges}: must hold an object of ranges for each algorithm")
    schedule = {"step_hint_factor": {"feasible_points": [SCHEDULE_FRACTION]}}
    for entry in content:
        entries.folder(entry)
    by_entry = search_space.ranges_by_entry(ranges, list(content))
    return Search(
        workloads=workloads,
        ranges={entry: found | schedule for entry, found in by_entry.items()},
        count=count,
        seed=seed,
        max_steps=steps,
        ignore_targets=True,
    )


def set_targets(
    search: Search,
    seeds: int,
    logs: Path,
    output: Path,
    targets_file: Path,
    machine: study.Machine,
) -> int:
    """Runs search and repeats, writes tables and targets; 1, and no targets, if a trial failed."""
    targets = read_targets(targets_file)
    if search.run(logs, machine):
        return 1
    rows, problems = rows_of(search.trials(), logs, targets=False)
    if problems:
        raise UserError(problems[0])
    write_table(output / TABLE, rows)

    winners = {name: winner(rows, registry.facts(name)) for name in search.workloads}
    choice = {(row["entry"], name): [row["trial"]] for name, row in winners.items()}
    # Study 0 was the search; the studies after it differ from it in their seeds.
    repeats = search.trials(range(1, seeds + 1), choice)
    if search.run(logs, machine, repeats):
        return 1
    repeat_rows, problems = rows_of(repeats, logs, targets=False)
    if problems:
        raise UserError(problems[0])
    for row, trial in zip(repeat_rows, repeats, strict=True):
        row["study"] = trial.study
    write_table(output / REPEATS, repeat_rows, key=("workload",))

    for name in search.workloads:
        runs = [trial for trial in repeats if trial.workload == name]
        found = targets_from(runs, logs, registry.facts(name))
        targets[name] = found | {"search_trials_per_algorithm": search.count} | _provenance()
        print(
            f"{name}: validation target {found['validation_target']:.6g}, "
            f"test target {found['test_target']:.6g} ({found['algorithm']})"
        )
    files.write_json(targets_file, targets)
    print(f"wrote {targets_file}")
    return 0


def winner(rows: Sequence[Mapping[str, Any]], facts: WorkloadFacts) -> Mapping[str, Any]:
    """The search's row with the best validation value on one workload; the first of equals."""
    candidates = [
        row
        for row in rows
        if row["workload"] == facts.name and math.isfinite(row["best_validation"])
    ]
    if not candidates:
        raise UserError(f"no trial on {facts.name} has a finite validation value")
    return min(candidates, key=lambda row: facts.sort_key(row["best_validation"]))


def targets_from(runs: Sequence[Trial], logs: Path, facts: WorkloadFacts) -> dict[str, Any]:
    """Targets and what they rest on, from runs of one point that differ in their seeds."""
    best: dict[str, list[float]] = {"validation": [], "test": []}
    for trial in runs:
        evaluations = read_evaluations(
            trial.directory(logs), [f"{split}/{facts.metric}" for split in best]
        )
        for split, values in best.items():
            row = best_evaluation(evaluations, facts, split)
            if row is None:
                raise UserError(f"{trial.directory(logs)}: no finite {split}/{facts.metric}")
            values.append(row[f"{split}/{facts.metric}"])
    validation_target = statistics.median(best["validation"])
    achieved = [
        test
        for validation, test in zip(best["validation"], best["test"], strict=True)
        if facts.meets(validation, validation_target)
    ]
    return {
        "validation_target": validation_target,
        "test_target": max(achieved, key=facts.sort_key),
        "metric": facts.metric,
        "algorithm": runs[0].entry,
        "trial": runs[0].trial,
        "hyperparameters": dict(runs[0].hyperparameters),
        "steps": runs[0].max_steps,
        "rng_seeds": [trial.rng_seed for trial in runs],
        "best_validation_per_seed": best["validation"],
        "best_test_per_seed": best["test"],
    }


def _provenance() -> dict[str, Any]:
    described = environment.describe()
    kept = ("python_version", "packages", "cpu_model_name", "git_commit_hash", "git_dirty")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {name: described[name] for name in kept} | {"date": today}


if __name__ == "__main__":
    define_flags()
    cli.run(main)
