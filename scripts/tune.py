"""Tunes on the stand-ins: searches, chooses short lists of points, and sets the targets.

    python -m scripts.tune --mode=search --entries=shampoo,adamw --ranges=ranges.json --output=DIR
    python -m scripts.tune --mode=points --entries=shampoo,adamw --ranges=ranges.json \\
      --search=DIR/search.csv --output=workloads/standin/points
    python -m scripts.tune --mode=targets --trials=20 --seeds=5 --output=DIR

`search` gives each entry, on each workload, the same number of points drawn quasi-randomly from the
ranges, `{"learning_rate": {"min": ...}, ...}` for all entries or one such object per entry. Writes
OUTPUT/search.csv, one row per trial: the best validation value, its step, and the first evaluated
step that met the validation target. A larger --trials extends a search. Trials
whose rows are in that table do not run again.

`points` chooses each entry's short list from a search, by one rule for all, and writes it to
OUTPUT/ENTRY.json. A list costs, on each workload, what its best point costs: the steps to the
validation target divided by the step hint, or 2 if no point reaches it. Points are added one at a
time, each the one that lowers the mean cost over workloads most; equal ones are told apart by the
mean over workloads of the best rank, among all points searched, of the best validation value; then
by the mean of the candidate's own ranks; then by their number. Writes OUTPUT/best.csv, too: which
point of each list did best on each workload in the search, for `scripts.study --trials=best`; where
it has workloads that the search was not on, lists stay.

`targets` sets the stand-ins' targets as AlgoPerf sets its own, from the standard algorithms that
the ranges name. Each gets the same number of points, with schedules of 0.75 of the step budget. The
point with the best validation value of all is run again with other seeds. The validation target is
the median over these runs of the best validation value; the test target is the worst, over the runs
that achieved the validation target, of the best test value. Writes search.csv and repeats.csv to
the output, and targets.json.
"""

import dataclasses
import datetime
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import cli, files
from common.cli import UserError
from scripts.local import entries, environment, studies
from scripts.local import plan as plans
from scripts.local.curve import Curve
from scripts.local.metrics_log import read_evaluations
from scripts.local.search_table import (
    BEST,
    TABLE,
    check_kept,
    check_points,
    choose,
    costs_and_ranks,
    recorded,
    rows_of,
    write_best,
    write_table,
)
from scripts.local.trial import MOST_STUDIES, Trial
from workloads import registry, search_space
from workloads.facts import WorkloadFacts
from workloads.search_space import Point, Ranges
from workloads.standin.facts import TARGETS_FILE, read_targets

FLAGS = flags.FLAGS
RANGES = TARGETS_FILE.with_name("target_search_spaces.json")
REPEATS = "repeats.csv"
MOST_POINTS = 10_000


_MODES_OF_FLAG = {
    "entries": ("search", "points"),
    "workloads": ("search", "targets"),
    "trials": ("search", "targets"),
    **dict.fromkeys(("search", "points"), ("points",)),
    "logs": ("search", "targets"),
    **dict.fromkeys(("seeds", "targets_file"), ("targets",)),
}
_REQUIRED = {
    "search": ("entries", "ranges", "output"),
    "points": ("entries", "ranges", "output", "search"),
    "targets": ("output",),
}


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_enum("mode", None, list(_REQUIRED), "what to do", required=True)
    flags.DEFINE_list("workloads", registry.names("standin"), "workloads to train")
    flags.DEFINE_list("entries", None, "folders of submission/entries, or paths")
    flags.DEFINE_string("ranges", None, "JSON file with the ranges (targets: the committed ones)")
    flags.DEFINE_string("output", None, "folder to write to")
    flags.DEFINE_integer("trials", 20, "points per entry and workload", 1, MOST_POINTS)
    flags.DEFINE_string("search", None, f"{TABLE} of a search with the same ranges")
    flags.DEFINE_integer("points", 5, "points to choose", lower_bound=1)
    flags.DEFINE_integer("seeds", 5, "runs of the best point", 1, MOST_STUDIES)
    flags.DEFINE_string(
        "logs", "runs/targets", "folder for the trials' logs (search: the output, if not given)"
    )
    flags.DEFINE_string("targets_file", None, "JSON file (default: targets.json in the output)")
    studies.define_machine_flags()
    flags.adopt_module_key_flags(studies)  # so that --help lists them


def main(argv: Sequence[str]) -> int:
    """Does what --mode says; 1 if a trial failed or its log is damaged."""
    del argv
    mode = FLAGS.mode
    machine_flags = {flag.name for flag in FLAGS.get_key_flags_for_module(studies)}
    modes = _MODES_OF_FLAG | dict.fromkeys(machine_flags, ("search", "targets"))
    for name, allowed in modes.items():
        if FLAGS[name].present and mode not in allowed:
            raise UserError(f"--{name} is for --mode={' or '.join(allowed)}")
    for name in _REQUIRED[mode]:
        if FLAGS[name].value is None:
            raise UserError(f"--mode={mode} needs --{name}")
    return {"search": _search, "points": _points, "targets": _targets}[mode]()


# Search.


def _search() -> int:
    workloads, output = studies.workloads_from_flags(), Path(FLAGS.output)
    ranges = entries.ranges(Path(FLAGS.ranges), studies.entries_from_flags())
    planned = search_trials(workloads, drawn(ranges, FLAGS.trials), FLAGS.seed)
    studies.print_caveats(workloads)
    logs = Path(FLAGS.logs) if FLAGS["logs"].present else output
    known, planned = recorded(output / TABLE, planned)
    if known:
        print(f"{len(known)} trials are in {output / TABLE}; {len(planned)} are left")
    if FLAGS.dry_run:
        studies.print_plan(planned, logs)
        return 0
    if not planned:
        return 0
    files.make_directory(output)
    code = run(planned, drawn(ranges, FLAGS.trials), logs, studies.machine_from_flags())
    rows, problems = rows_of(planned, logs)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    write_table(output / TABLE, [*known, *rows])
    print(f"wrote {output / TABLE}: {len(rows)} trials")
    return code or int(bool(problems))


def drawn(ranges: Mapping[str, Ranges], count: int) -> dict[str, list[Point]]:
    """The points of each entry."""
    return {entry: search_space.draw(of_entry, count) for entry, of_entry in ranges.items()}


def search_trials(
    workloads: Sequence[str], points: Mapping[str, Sequence[Point]], seed: int, **settings: Any
) -> list[Trial]:
    """All points in study 0; `settings` are those of `plan.trials_of`."""
    choice = plans.all_points(workloads, points)
    frameworks = entries.frameworks(points)
    return plans.trials_of([0], points, choice, seed, frameworks=frameworks, **settings)


def run(
    planned: Sequence[Trial],
    points: Mapping[str, list[Point]],
    output: Path,
    machine: studies.Machine,
) -> int:
    """Runs what is missing of the trials; 1 if one failed, else 0.

    Each entry's points are written to a search space in `output`; UserError if that holds others.
    """
    folder = files.make_directory(output / "search_spaces")
    spaces = {entry: folder / f"{entry}.json" for entry in points}
    for entry, path in spaces.items():
        present = search_space.points(path) if path.exists() else []
        common = min(len(present), len(points[entry]))
        if present[:common] != points[entry][:common]:
            raise UserError(f"{path} was drawn from other ranges; choose another --output")
        if len(points[entry]) > len(present):
            files.write_json(path, points[entry])
    return studies.report(studies.run_study(planned, spaces, output, machine), len(planned), output)


# The choice of points.


def _points() -> int:
    table, output = Path(FLAGS.search), files.make_directory(Path(FLAGS.output))
    names = studies.entries_from_flags()
    for entry, ranges in entries.ranges(Path(FLAGS.ranges), names).items():
        costs, ranks = costs_and_ranks(table, entry)
        if FLAGS.points > len(costs):
            raise UserError(f"--points={FLAGS.points}: {table} has {len(costs)} points")
        points = search_space.draw(ranges, costs.index.max())
        check_points(table, entry, points)
        check_kept(output / BEST, entry, list(costs), table)
        chosen = choose(costs, ranks, FLAGS.points)
        for count, number in enumerate(chosen, start=1):
            best = costs.loc[chosen[:count]].min()
            parts = ", ".join(f"{workload} {cost:.3f}" for workload, cost in best.items())
            print(f"{entry}, trial {number}: cost so far {statistics.fmean(best):.3f} ({parts})")
        files.write_json(output / f"{entry}.json", [points[number - 1] for number in chosen])
        print(f"wrote {output / entry}.json")
        write_best(output / BEST, entry, costs.loc[chosen], ranks.loc[chosen], points)
    return 0


# Targets.


def _targets() -> int:
    workloads, logs = studies.workloads_from_flags(), Path(FLAGS.logs)
    points = drawn(target_ranges(Path(FLAGS.ranges or RANGES)), FLAGS.trials)
    output = Path(FLAGS.output)
    targets_file = Path(FLAGS.targets_file) if FLAGS.targets_file else output / "targets.json"
    planned = target_search(workloads, points, FLAGS.seed)
    if FLAGS.dry_run:
        studies.print_plan(planned, logs)
        print(f"then {FLAGS.seeds} runs of the best point of each workload")
        return 0
    for folder in (output, targets_file.parent):
        files.make_directory(folder)
    machine = studies.machine_from_flags()
    return set_targets(planned, points, FLAGS.seeds, logs, output, targets_file, machine)


def target_ranges(path: Path) -> dict[str, Ranges]:
    """The ranges of each algorithm of a file, and the schedule's length that all share."""
    content = files.read_json(path)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: must hold an object of ranges for each algorithm")
    for entry in content:
        entries.folder(entry)
    schedule = {"step_hint_factor": {"feasible_points": [plans.SCHEDULE_FRACTION]}}
    return {entry: of | schedule for entry, of in entries.ranges(path, list(content)).items()}


def target_search(
    workloads: Sequence[str], points: Mapping[str, Sequence[Point]], seed: int
) -> list[Trial]:
    """The trials that targets are set from, which end with their schedules."""
    steps = {
        name: int(plans.SCHEDULE_FRACTION * registry.facts(name).step_hint) for name in workloads
    }
    return search_trials(workloads, points, seed, max_steps=steps, ignore_targets=True)


def set_targets(
    searched: Sequence[Trial],
    points: Mapping[str, list[Point]],
    seeds: int,
    logs: Path,
    output: Path,
    targets_file: Path,
    machine: studies.Machine,
) -> int:
    """Runs search and repeats, writes tables and targets; 1, and no targets, if a trial failed."""
    targets = read_targets(targets_file)
    rows = _rows_once_run(searched, points, logs, machine)
    if rows is None:
        return 1
    write_table(output / TABLE, rows)
    repeats = []
    for name in dict.fromkeys(trial.workload for trial in searched):
        best = winner(rows, registry.facts(name))
        number = (best["entry"], best["trial"])
        (trial,) = (t for t in searched if t.workload == name and (t.entry, t.trial) == number)
        # Study 0 was the search; the studies after it differ from it in their seeds.
        repeats += [dataclasses.replace(trial, study=study) for study in range(1, seeds + 1)]
    repeat_rows = _rows_once_run(repeats, points, logs, machine)
    if repeat_rows is None:
        return 1
    for row, trial in zip(repeat_rows, repeats, strict=True):
        row["study"] = trial.study
    write_table(output / REPEATS, repeat_rows, key=("workload",))
    count = len({trial.trial for trial in searched})
    for name in dict.fromkeys(trial.workload for trial in repeats):
        runs = [trial for trial in repeats if trial.workload == name]
        target = targets_from(runs, logs, registry.facts(name))
        targets[name] = target | {"search_trials_per_algorithm": count} | _provenance()
        print(
            f"{name}: validation target {target['validation_target']:.6g}, "
            f"test target {target['test_target']:.6g} ({target['algorithm']})"
        )
    files.write_json(targets_file, targets)
    print(f"wrote {targets_file}")
    return 0


def _rows_once_run(
    planned: Sequence[Trial],
    points: Mapping[str, list[Point]],
    logs: Path,
    machine: studies.Machine,
) -> list[dict[str, Any]] | None:
    """The rows of all trials; None if one failed, UserError if a log is damaged."""
    if run(planned, points, logs, machine):
        return None
    rows, problems = rows_of(planned, logs, targets=False)
    if problems:
        raise UserError(problems[0])
    return rows


def winner(rows: Sequence[Mapping[str, Any]], facts: WorkloadFacts) -> Mapping[str, Any]:
    """The search's row with the best validation value on one workload; the first of equals."""
    candidates = [
        row
        for row in rows
        if row["workload"] == facts.name and facts.is_possible(row["best_validation"])
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
            step, value = Curve.of(evaluations, facts, split).best()
            if step is None:
                raise UserError(f"{trial.directory(logs)}: no finite {split}/{facts.metric}")
            values.append(value)
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
    names = ("python_version", "packages", "cpu_model_name", "git_commit_hash", "git_dirty")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {name: described[name] for name in names} | {"date": today}


if __name__ == "__main__":
    define_flags()
    cli.run(main)
