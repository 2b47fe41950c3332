"""Times a training step of every entry on the stand-ins, like for like.

    python -m scripts.league.cost --entries=shampoo,adamw --output=results/league

On each workload all entries train in one process, on the same batches from the same weights,
without dropout, by their first points; they take twenty steps in a row each, so that each has its
own data in the caches, as in training. Writes step_cost.csv, a row per workload and entry, and
step_cost.md, with ratios to the baseline. Times are CPU time of the process per step, refreshes of
roots and all: means over twenty steps, and of these the median over --steps steps after --warmup
ones. A CPU is noisy: only the ratios count. With --variants those of `scripts.league.vary` run
beside the entries, under their names.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from absl import flags

from common import cli, documents, files, progress
from common.cli import UserError
from scripts.benchmark.clock import interleaved, timed
from scripts.benchmark.machine import collector_off
from scripts.league import vary
from scripts.local import entries, manifest, studies, trial_state
from scripts.local.metrics_log import MetricsLog, write_csv
from scripts.local.trial import Trial
from scripts.local.trial_state import TrialState
from submission.algoperf_api import spec
from workloads import registry
from workloads.search_space import Point

FLAGS = flags.FLAGS
BASELINE = "adamw"
COLUMNS = ("workload", "entry", "milliseconds", "ratio")
# With other entries between any two of an entry's steps none finds its data in the caches, which
# costs AdamW as much as Shampoo and so makes Shampoo's ratio less than it is in training.
_IN_A_ROW = 20
# Of entries beside each other.
_COLUMNS = 4


def measure(
    workload: str,
    chosen: Sequence[str],
    warmup: int,
    steps: int,
    variants: Mapping[str, vary.Variant] | None = None,
) -> list[dict[str, Any]]:
    """A row per entry and variant: milliseconds of CPU time per step, and over the baseline's."""
    running = {name: _started(workload, name, entries.points(name)[0]) for name in chosen}
    for name, variant in (variants or {}).items():
        points, _ = variant.points([workload])
        entry = entries.named(vary.argument(variant.entry))
        running[name] = _started(workload, entry, points[0])
    spent: dict[str, list[float]] = {name: [] for name in running}
    total = warmup + steps
    with collector_off(), progress.bar(total * len(running), workload, "step") as bar:
        for name in interleaved(list(running), math.ceil(total / _IN_A_ROW)):
            for _ in range(min(_IN_A_ROW, total - len(spent[name]))):
                try:
                    sample = timed(lambda: _step(running[name]), torch.device("cpu"), math.inf)  # noqa: B023
                except spec.TrainingCompleteError as error:
                    taken = f"the schedule of {name} on {workload} has {len(spent[name])} steps"
                    raise UserError(f"{taken}, --warmup and --steps are {total}") from error
                spent[name].append(sample.cpu)
                bar.update()
    means = {name: _mean(times[warmup:]) for name, times in spent.items()}
    return [
        {
            "workload": workload,
            "entry": name,
            "milliseconds": mean,
            "ratio": mean / means[BASELINE],
        }
        for name, mean in means.items()
    ]


def _mean(times: Sequence[float]) -> float:
    """The median over runs of steps of their means: a pause of the machine spoils one of them."""
    starts = range(0, len(times), _IN_A_ROW)
    return statistics.median(statistics.fmean(times[i : i + _IN_A_ROW]) for i in starts)


def _started(workload: str, entry: str, point: Point) -> TrialState:
    point = {**point, "dropout_rate": 0.0}
    framework = entries.frameworks([entry])[entry]
    trial = Trial(workload, entry, 0, 1, point, ignore_targets=True, framework=framework)
    state = trial_state.start(trial, MetricsLog(Path()))
    # At the first step of a period entries also log, which is no part of the optimizer.
    state.global_step = 1
    return state


def _step(state: TrialState) -> None:
    """What a runner's step consists of, without its evaluations and logs."""
    batch = next(state.input_queue)
    state.call(state.submission.update_params, batch=batch, rng=state.loop_rng)
    if state.trial.framework == "jax":  # whose steps run on after the call
        import jax

        jax.block_until_ready(state.model)


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The document: ratios to the baseline, a row per workload."""
    frame = pd.DataFrame(rows).astype({"milliseconds": float, "ratio": float})
    frame = frame.set_index(["workload", "entry"])
    ratios = frame["ratio"].unstack(sort=False)
    ratios.loc["geometric mean"] = ratios.apply(statistics.geometric_mean)
    cells = ratios.map("{:.2f}".format)
    baseline = frame["milliseconds"].xs(BASELINE, level="entry").map("{:.1f}".format)
    cells.insert(0, f"{BASELINE}, ms", baseline.reindex(cells.index, fill_value=""))
    # A table that is wider than a page is read by nobody.
    parts = [
        cells.columns[start : start + _COLUMNS] for start in range(1, cells.shape[1], _COLUMNS)
    ]
    tables = [
        documents.table(cells[[cells.columns[0], *part]].reset_index().to_dict("records"))
        for part in parts
    ]
    return (
        "# What a training step costs\n\n"
        "CPU time per step relative to AdamW's, model and optimizer together: one process, twenty "
        "steps in a row each, again and again, same batches, no dropout, each at its first point. "
        "By `python -m scripts.league.cost`; manifest.json says on what machine. Stand-ins, not "
        "AlgoPerf.\n\n" + "\n\n".join(tables) + "\n"
    )


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_list("workloads", registry.names("standin"), "workloads to train")
    flags.DEFINE_list("entries", None, "folders of submission/entries, or paths", required=True)
    flags.DEFINE_list("variants", [], "names in results/methods/variants.json")
    flags.DEFINE_string("output", None, "folder for the tables", required=True)
    flags.DEFINE_integer("warmup", 20, "steps of an entry that are not counted", lower_bound=0)
    flags.DEFINE_integer("steps", 100, "steps of an entry that are", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Measures all workloads and writes the tables."""
    del argv
    torch.set_num_threads(1)
    workloads, chosen = studies.workloads_from_flags(), studies.entries_from_flags()
    if BASELINE not in chosen:
        raise UserError(f"--entries must have {BASELINE}, which the others are compared with")
    variants = vary.variants(FLAGS.variants) if FLAGS.variants else {}
    if both := variants.keys() & set(chosen):
        raise UserError(f"--variants: {', '.join(sorted(both))} would have the name of an entry")
    output = files.make_directory(Path(FLAGS.output))
    with manifest.recorded(output):
        rows = [
            row
            for workload in workloads
            for row in measure(workload, chosen, FLAGS.warmup, FLAGS.steps, variants)
        ]
        write_csv(output / "step_cost.csv", rows, COLUMNS)
        files.write_text(output / "step_cost.md", page(rows))
    print(page(rows))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
