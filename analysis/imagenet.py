"""Shampoo against Nesterov SGD on ImageNet: curves, and epochs and hours to SGD's final accuracy.

python -m analysis.imagenet --runs=runs/imagenet --output=runs/imagenet/report
"""

import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from absl import flags
from tabulate import tabulate

from analysis import style
from analysis.imagenet_figure import accuracy_curves
from analysis.imagenet_runs import Run, label, read_runs, reference
from analysis.texts import UNKNOWN, ratio_text
from common import cli, files
from common.cli import UserError

REPORT = "report.md"
TABLE = "runs.csv"
FIGURE = "imagenet"
_MEANING = (
    "Top-1 accuracy is that of the whole validation set after an epoch; time is that of training, "
    "loading of images included, without evaluation. Ratios are of the first times at which that "
    "accuracy was met."
)
_UNKNOWN = (math.nan, math.nan)
# In these, runs of one comparison may differ.
_FREE = frozenset({"name", "seed", "optimizer", "epochs", "lr", "warmup_epochs", "milestones"})


def summary(runs: Sequence[Run], baseline: str) -> pd.DataFrame:
    """One row per run.

    Args:
      runs: as `read_runs` finds them.
      baseline: the run whose final accuracy is the mark for all.

    Returns:
      run, seed, epochs (evaluated), planned_epochs, finished, final_accuracy (NaN while
      unfinished), best_accuracy, best_epoch, hours (of training), epochs_to_reference,
      hours_to_reference (inf if a finished run has not got there, NaN where it is not known),
      epochs_ratio, hours_ratio (of those two to the baseline's own, the median over its seeds).
    """
    mark = reference(runs, baseline)
    own = [run.reaches(mark) for run in runs if run.name == baseline and run.finished]
    epochs, hours = (
        (statistics.median(each) for each in zip(*own, strict=True)) if own else _UNKNOWN
    )
    rows = []
    for run in runs:
        accuracy = run.log["validation_accuracy"]
        best = run.log.loc[accuracy.idxmax()] if accuracy.notna().any() else None
        reached = run.reaches(mark)
        rows.append(
            {
                "run": run.name,
                "seed": run.seed,
                "epochs": len(run.log),
                "planned_epochs": run.settings["epochs"],
                "finished": run.finished,
                "final_accuracy": accuracy.iloc[-1] if run.finished else math.nan,
                "best_accuracy": math.nan if best is None else best["validation_accuracy"],
                "best_epoch": math.nan if best is None else best["epoch"],
                "hours": run.log["hours"].iloc[-1],
                "epochs_to_reference": reached[0],
                "hours_to_reference": reached[1],
                "epochs_ratio": reached[0] / epochs if math.isfinite(epochs) else math.nan,
                "hours_ratio": reached[1] / hours if math.isfinite(hours) else math.nan,
            }
        )
    return pd.DataFrame(rows)


def table(summarised: pd.DataFrame, baseline: str, fmt: str = "pipe") -> str:
    """The summary for people, accuracies in percent."""
    rows = []
    for row in summarised.to_dict("records"):
        cells: dict[str, Any] = {
            "run": label(row["run"]),
            "seed": row["seed"],
            "epochs": f"{row['epochs']} of {row['planned_epochs']}",
            "final top-1": _percent(row["final_accuracy"]),
            "best top-1 (epoch)": _percent(row["best_accuracy"]),
            "training": _hours(row["hours"]),
            f"epochs to {label(baseline)}'s final": _count(row["epochs_to_reference"]),
            "time to it": _hours(row["hours_to_reference"]),
            f"epochs / {label(baseline)}": ratio_text(row["epochs_ratio"]),
            f"time / {label(baseline)}": ratio_text(row["hours_ratio"]),
        }
        if not math.isnan(row["best_epoch"]):
            cells["best top-1 (epoch)"] += f" ({row['best_epoch']:.0f})"
        rows.append(cells)
    align = ["left", *["right"] * (len(rows[0]) - 1)]
    return str(tabulate(rows, "keys", fmt, colalign=align, disable_numparse=True))


def _percent(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{100 * value:.2f}%"


def _count(value: float) -> str:
    return UNKNOWN if math.isnan(value) else "not reached" if math.isinf(value) else f"{value:.0f}"


def _hours(value: float) -> str:
    if math.isnan(value) or math.isinf(value):
        return _count(value)
    return f"{value:.2f} h" if value >= 0.1 else f"{3600 * value:.1f} s"


def remarks(runs: Sequence[Run], baseline: str) -> list[str]:
    """What a reader must know before comparing the runs."""
    told = []
    for run in runs:
        if not run.finished:
            planned = run.settings["epochs"]
            told.append(f"{run.title} is unfinished: {len(run.log)} of {planned} epochs.")
    if reference(runs, baseline) is None:
        told.append(f"No run of {label(baseline)} has finished: nothing to measure the others by.")
    if not {run.name for run in runs} - {baseline}:
        told.append(f"There is no run but {label(baseline)}'s: nothing is compared.")
    machines = {run.machine for run in runs}
    if len(machines) > 1:
        told.append(f"Times are not comparable: {'; '.join(sorted(machines))}.")
    first = runs[0].settings
    for name in sorted(first.keys() - _FREE):
        values = {str(run.settings.get(name)) for run in runs}
        if len(values) > 1:
            told.append(f"The runs differ in {name}: {', '.join(sorted(values))}.")
    return told


def title(runs: Sequence[Run]) -> str:
    """What was trained, and what of it is no ImageNet result."""
    if all(run.settings["data"] == "imagenet" for run in runs):
        return "ResNet-50 on ImageNet"
    return "A ResNet on generated images: no ImageNet result"


def write_report(folder: Path, output: Path, baseline: str = "sgd") -> tuple[str, list[Path]]:
    """Reads the runs in `folder` and writes a table, a figure and a page into `output`.

    Returns:
      what a terminal shows, and the files.

    Raises:
      UserError: there is no run that can be read, or `output` cannot be written to.
    """
    runs, problems = read_runs(folder)
    if not runs:
        reasons = "; ".join(map(str, problems)) or "no folders NAME/seed_N"
        raise UserError(f"--runs={folder}: no run to report on: {reasons}")
    summarised = summary(runs, baseline)
    told = [*remarks(runs, baseline), *map(str, problems)]
    files.make_directory(output)
    figure = accuracy_curves(runs, reference(runs, baseline), baseline, title(runs))
    pictures = style.save(figure, output, FIGURE)
    machines = "; ".join(sorted({run.machine for run in runs}))
    parts = [
        f"# {title(runs)}",
        table(summarised, baseline),
        f"Trained on {machines}. {_MEANING}",
        f"![top-1 accuracy]({FIGURE}.png)",
        *(f"- {remark}" for remark in told),
    ]
    files.write_text(output / REPORT, "\n\n".join(parts) + "\n")
    files.write_text(output / TABLE, summarised.to_csv(index=False))
    shown = "\n".join([table(summarised, baseline, "simple"), *(f"note: {each}" for each in told)])
    return shown, [output / REPORT, output / TABLE, *pictures]


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("runs", None, "folder with the runs' folders, NAME/seed_N", required=True)
    flags.DEFINE_string("output", None, "folder for the report", required=True)
    flags.DEFINE_string("baseline", "sgd", "the run whose final accuracy the others are to reach")


def main(argv: Sequence[str]) -> None:
    """Writes the report that the flags describe."""
    del argv
    given = flags.FLAGS
    shown, written = write_report(Path(given.runs), Path(given.output), given.baseline)
    print(shown)
    for path in written:
        print(path, file=sys.stderr)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
