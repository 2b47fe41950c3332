"""Trains the nine stand-ins anew with one thing changed in the league's best entry.

    python -m scripts.league.vary --output=DIR [--variants=damping1e-4,overlap]

The variants are those of results/methods/variants.json with a `point`: hyperparameters, or options
of `Shampoo`, that each of the entry's points has then. Every variant trains the best point of every
workload with the seeds of the league's study, in a folder of its own under --output, and resumes.
`python -m analysis.methods --logs=DIR` makes tables of what came out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import cli, files
from common.cli import UserError, near
from scripts.local import entries, studies
from scripts.local import plan as plans
from scripts.local.plan import Choice
from workloads import registry
from workloads.search_space import Point

FLAGS = flags.FLAGS
ROOT = Path(__file__).parents[2]
VARIANTS = ROOT / "results" / "methods" / "variants.json"
BASE, VARIED = "shampoo_ema", "varied"
FOLDERS = {
    BASE: Path(__file__).with_name("entries") / BASE,
    VARIED: Path(__file__).with_name(VARIED),
}
BEST, POINTS = entries.STANDIN_POINTS / "best.csv", "points.json"
# Those of the league; study 0 chose the points.
STUDIES = range(1, 4)


def varied(workloads: Sequence[str], change: Mapping[str, Any]) -> tuple[list[Point], Choice]:
    """The base's points with a change, and which of them is the best of each workload.

    UserError as `plans.best_trials`.
    """
    points = entries.points(entries.named(str(FOLDERS[BASE])))
    best = plans.best_trials(BEST, {BASE: points}, workloads)
    choice = {(VARIED, workload): numbers for (_, workload), numbers in best.items()}
    return [{**point, **change} for point in points], choice


def changes(names: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """What the named variants change, or all that can run; UserError for a name that cannot."""
    listed = files.read_json(VARIANTS)
    found = {name: entry["point"] for name, entry in listed.items() if "point" in entry}
    for name in names or ():
        if name not in found:
            known = "a patch of the code" if name in listed else f"unknown{near(found, name)}"
            raise UserError(f"--variants: {name!r} is {known}; allowed: {', '.join(found)}")
    return {name: found[name] for name in names} if names else found


def define_flags() -> None:
    """Declares the command line."""
    studies.define_machine_flags()
    flags.adopt_module_key_flags(studies)  # so that --help lists them
    flags.DEFINE_list("variants", None, "names in variants.json; all if absent")
    flags.DEFINE_list("workloads", registry.names("standin"), "workloads to train")
    flags.DEFINE_string("output", None, "folder for a folder of logs per variant", required=True)


def main(argv: Sequence[str]) -> int:
    """Trains the variants one after another; 1 if a trial failed."""
    del argv
    workloads, failed = studies.workloads_from_flags(), 0
    entries.named(str(FOLDERS[VARIED]))
    for name, change in changes(FLAGS.variants).items():
        output = Path(FLAGS.output) / name
        points, choice = varied(workloads, change)
        planned = plans.trials_of(STUDIES, {VARIED: points}, choice, FLAGS.seed)
        if FLAGS.dry_run:
            studies.print_plan(planned, output)
            continue
        space = files.make_directory(output) / POINTS
        files.write_json(space, points)
        failures = studies.run_study(planned, {VARIED: space}, output, studies.machine_from_flags())
        failed |= studies.report(failures, len(planned), output)
    return failed


if __name__ == "__main__":
    define_flags()
    cli.run(main)
