"""Trains the nine stand-ins anew with one thing changed in the league's best entry.

    python -m scripts.league.vary --output=DIR [--variants=damping1e-4,overlap]

The variants are those of results/methods/variants.json with a `point`: hyperparameters, or options
of `Shampoo`, that each of the entry's points has then; `entry` and `points_of` name other entries
of the league, as those of other people's packages. Every variant trains the best point of every
workload with the seeds of the league's study, in a folder of its own under --output, and resumes.
`python -m analysis.methods --logs=DIR` makes tables of what came out.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import cli, files
from common.cli import UserError, near
from scripts.local import entries, search_table, studies
from scripts.local import plan as plans
from scripts.local.plan import Choice
from workloads import registry
from workloads.search_space import Point

FLAGS = flags.FLAGS
ROOT = Path(__file__).parents[2]
VARIANTS = ROOT / "results" / "methods" / "variants.json"
BASE, VARIED = "shampoo_ema", "varied"
BEST, POINTS = entries.STANDIN_POINTS / search_table.BEST, "points.json"
# Those of the league; study 0 chose the points.
STUDIES = range(1, 4)


@dataclasses.dataclass(frozen=True)
class Variant:
    """What a variant trains.

    Attributes:
      change: hyperparameters that every point has instead of, or besides, its own.
      entry: the league's entry that reads them.
      points_of: the entry of the league whose best points they are.
    """

    change: Mapping[str, Any]
    entry: str = VARIED
    points_of: str = BASE

    def points(self, workloads: Sequence[str]) -> tuple[list[Point], Choice]:
        """The points, and which of them is the best of each workload; UserError as `plans`."""
        entries.named(argument(self.entry))
        points = entries.points(entries.named(argument(self.points_of)))
        best = plans.best_trials(BEST, {self.points_of: points}, workloads)
        choice = {(self.entry, workload): numbers for (_, workload), numbers in best.items()}
        return [{**point, **self.change} for point in points], choice


def argument(entry: str) -> str:
    """An entry as a command line names it: those of the league alone are in folders of its own."""
    here = Path(__file__).parent
    folder = here / VARIED if entry == VARIED else here / "entries" / entry
    return str(folder) if folder.is_dir() else entry


def variants(names: Sequence[str] | None) -> dict[str, Variant]:
    """The named variants, or all that can run; UserError for a name that cannot."""
    listed = files.read_json(VARIANTS)
    known = {
        name: Variant(entry["point"], entry.get("entry", VARIED), entry.get("points_of", BASE))
        for name, entry in listed.items()
        if "point" in entry
    }
    for name in names or ():
        if name not in known:
            problem = "a patch of the code" if name in listed else f"unknown{near(known, name)}"
            raise UserError(f"--variants: {name!r} is {problem}; allowed: {', '.join(known)}")
    return {name: known[name] for name in names} if names else known


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
    workloads, machine = studies.workloads_from_flags(), studies.machine_from_flags()
    failed = 0
    for name, variant in variants(FLAGS.variants).items():
        output = Path(FLAGS.output) / name
        points, choice = variant.points(workloads)
        planned = plans.trials_of(STUDIES, {variant.entry: points}, choice, FLAGS.seed)
        if FLAGS.dry_run:
            studies.print_plan(planned, output)
            continue
        space = files.make_directory(output) / POINTS
        files.write_json(space, points)
        failures = studies.run_study(planned, {variant.entry: space}, output, machine)
        failed |= studies.report(failures, len(planned), output)
    return failed


if __name__ == "__main__":
    define_flags()
    cli.run(main)
