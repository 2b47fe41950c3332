"""Shampoo against Nesterov SGD on ImageNet: curves, and epochs and hours to SGD's final accuracy.

python -m analysis.imagenet --runs=runs/imagenet --output=runs/imagenet/report
"""

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from absl import flags
from matplotlib.figure import Figure

from analysis import style
from analysis.curves import median_curve
from analysis.texts import NOT_REACHED, ratio_text
from common import cli, documents, files
from common.cli import UserError

_COLUMNS = ["epoch", "step", "seconds", "train_loss", "validation_loss"]
_COLUMNS += ["validation_accuracy", "lr"]
_MEANING = (
    "Top-1 accuracy is that of the whole validation set after an epoch; time is that of training, "
    "loading of images included, without evaluation. Ratios are of the first times at which that "
    "accuracy was met."
)
# In these, runs of one comparison may differ.
_FREE = frozenset({"name", "seed", "optimizer", "epochs", "lr", "warmup_epochs", "milestones"})
# The first part of a run, whose rise would flatten all the rest of the figure.
_RISE = 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One run's folder, as `scripts.imagenet` writes it.

    Attributes:
      settings: its config.json.
      log: one row per epoch, with the columns of log.csv and `hours` of training.
      finished: whether it has come to its end.
      machine: devices that it ran on.
    """

    settings: dict[str, Any]
    log: pd.DataFrame
    finished: bool
    machine: str

    @property
    def name(self) -> str:
        return str(self.settings["name"])

    def reaches(self, accuracy: float | None) -> tuple[float, float]:
        """Epochs and hours until the accuracy is first met after an epoch.

        Infinite if the whole run has not met it, NaN where that is not known yet.
        """
        if accuracy is None:
            return math.nan, math.nan
        met = self.log[self.log["validation_accuracy"] >= accuracy]
        if met.empty:
            never = math.inf if self.finished else math.nan
            return never, never
        return float(met["epoch"].iloc[0]), float(met["hours"].iloc[0])


def label(name: str) -> str:
    """A run's name as people write it.

    >>> label("sgd"), label("shampoo_50")
    ('Nesterov SGD', 'shampoo_50')
    """
    return style.label(_entry(name))


def _entry(name: str) -> str:
    return "nesterov" if name == "sgd" else name


def read_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """Evaluated runs under `folder`, by name and seed, and problems of the others."""
    runs, problems = [], []
    for path in sorted(folder.glob("*/seed_*")):
        try:
            runs.append(_read(path))
        except UserError as error:
            problems.append(str(error))
    return sorted(runs, key=lambda run: (run.name, run.settings["seed"])), problems


def _read(folder: Path) -> Run:
    settings = files.read_json(folder / "config.json")
    if not isinstance(settings, dict) or not {"name", "seed", "data", "epochs"} <= set(settings):
        raise UserError(f"{folder / 'config.json'} does not say what was trained")
    path = folder / "log.csv"
    if not path.exists():
        raise UserError(f"{folder}: no epoch has been evaluated yet")
    try:
        log = pd.read_csv(path)[_COLUMNS].astype(float)
    except (KeyError, ValueError) as error:  # pandas' own errors are ValueErrors, too
        raise UserError(f"{path} is damaged: {error}") from error
    if log["epoch"].tolist() != list(range(1, len(log) + 1)) or log.empty:
        raise UserError(f"{path} is damaged: its epochs are not 1, 2, 3, and so on")
    if log["validation_accuracy"].isna().any():
        raise UserError(f"{path} is damaged: an epoch has no accuracy")
    if not (log["seconds"].diff().iloc[1:] > 0).all() or not path.read_bytes().endswith(b"\n"):
        raise UserError(f"{path} is damaged: its seconds do not increase, or a line is cut off")
    finished = (folder / "status.json").exists()
    if finished and len(log) != settings["epochs"]:
        raise UserError(f"{path} has {len(log)} epochs of {settings['epochs']}, all done")
    facts = [files.read_json(meta_data) for meta_data in folder.glob("meta_data_*.json")]
    machines = {f"{fact.get('nproc')} x {fact.get('device')}" for fact in facts}
    machine = " and ".join(sorted(machines)) or "an unknown machine"
    return Run(settings, log.assign(hours=log["seconds"] / 3600), finished, machine)


def reference(runs: Sequence[Run], baseline: str) -> float | None:
    """The baseline's final accuracy, the median over its finished seeds; None if there is none."""
    finished = [run for run in runs if run.name == baseline and run.finished]
    return (
        float(np.median([r.log["validation_accuracy"].iloc[-1] for r in finished]))
        if finished
        else None
    )


def summary(runs: Sequence[Run], baseline: str) -> pd.DataFrame:
    """One row per run.

    Returns:
      run, seed, epochs (evaluated), planned_epochs, finished, final_accuracy (NaN while
      unfinished), best_accuracy, best_epoch, hours (of training), epochs_to_reference,
      hours_to_reference (to `reference`; inf if a finished run has not got there, NaN where it is
      not known), epochs_ratio, hours_ratio (of those two to the baseline's median).
    """
    mark = reference(runs, baseline)
    rows = []
    for run in runs:
        accuracy = run.log["validation_accuracy"]
        best = accuracy.idxmax()
        epochs, hours = run.reaches(mark)
        rows.append(
            {
                "run": run.name,
                "seed": run.settings["seed"],
                "epochs": len(run.log),
                "planned_epochs": run.settings["epochs"],
                "finished": run.finished,
                "final_accuracy": accuracy.iloc[-1] if run.finished else math.nan,
                "best_accuracy": accuracy[best],
                "best_epoch": run.log["epoch"][best],
                "hours": run.log["hours"].iloc[-1],
                "epochs_to_reference": epochs,
                "hours_to_reference": hours,
            }
        )
    table = pd.DataFrame(rows)
    base_rows = table[(table["run"] == baseline) & table["finished"]]
    for unit in ("epochs", "hours"):
        base = base_rows[f"{unit}_to_reference"].median()
        ratios = table[f"{unit}_to_reference"] / (base if math.isfinite(base) else math.nan)
        table[f"{unit}_ratio"] = ratios
    return table


def table(summarised: pd.DataFrame, baseline: str, fmt: str = "pipe") -> str:
    """The summary for people, accuracies in percent."""
    base = label(baseline)
    rows = [
        {
            "run": label(row["run"]),
            "seed": row["seed"],
            "epochs": f"{row['epochs']} of {row['planned_epochs']}",
            "final top-1": documents.number(row["final_accuracy"], ".2%"),
            "best top-1 (epoch)": f"{row['best_accuracy']:.2%} ({row['best_epoch']:.0f})",
            "training": _hours(row["hours"]),
            f"epochs to {base}'s final": _reached(row["epochs_to_reference"]),
            "time to it": _hours(row["hours_to_reference"]),
            f"epochs / {base}": ratio_text(row["epochs_ratio"]),
            f"time / {base}": ratio_text(row["hours_ratio"]),
        }
        for row in summarised.to_dict("records")
    ]
    return documents.table(rows, fmt=fmt, left=1)


def _reached(value: float) -> str:
    return NOT_REACHED if math.isinf(value) else documents.number(value, ".0f")


def _hours(value: float) -> str:
    if not math.isfinite(value):
        return _reached(value)
    return f"{value:.2f} h" if value >= 0.1 else f"{3600 * value:.1f} s"


def remarks(runs: Sequence[Run], baseline: str) -> list[str]:
    """Notes on unfinished, missing and unlike runs."""
    notes = [
        f"{label(run.name)}, seed {run.settings['seed']} is unfinished: {len(run.log)} of "
        f"{run.settings['epochs']} epochs."
        for run in runs
        if not run.finished
    ]
    if reference(runs, baseline) is None:
        notes.append(f"No run of {label(baseline)} has finished: nothing to measure the others by.")
    if not {run.name for run in runs} - {baseline}:
        notes.append(f"There is no run but {label(baseline)}'s: nothing is compared.")
    if len(machines := {run.machine for run in runs}) > 1:
        notes.append(f"Times are not comparable: {'; '.join(sorted(machines))}.")
    values = {
        name: sorted({str(run.settings.get(name)) for run in runs})
        for name in sorted(runs[0].settings.keys() - _FREE)
    }
    unlike = {name: texts for name, texts in values.items() if len(texts) > 1}
    return notes + [f"The runs differ in {name}: {', '.join(unlike[name])}." for name in unlike]


def title(runs: Sequence[Run]) -> str:
    """The report's title, which says whether the images were ImageNet's."""
    if all(run.settings["data"] == "imagenet" for run in runs):
        return "ResNet-50 on ImageNet"
    return "A ResNet on generated images: no ImageNet result"


def accuracy_curves(runs: Sequence[Run], baseline: str) -> Figure:
    """Top-1 accuracy over epochs on the left, over hours (or seconds) of training on the right.

    The line across is the baseline's final accuracy, a mark where a run's median first meets it.
    Of several seeds the median is drawn, of the finished ones if there are any.
    """
    names = list(dict.fromkeys(run.name for run in runs))
    looks = style.entry_styles(map(_entry, names))
    mark = reference(runs, baseline)
    long = max(run.log["hours"].iloc[-1] for run in runs) > 0.5
    time = ("hours", "training time (h)") if long else ("seconds", "training time (s)")
    with style.context(**{"font.size": 8}):
        figure = Figure(figsize=(7.4, 3.4), layout="constrained")
        figure.suptitle(title(runs), fontsize=9)
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, (column, text) in ((left, ("epoch", "epochs")), (right, time)):
            for name in names:
                same = [run for run in runs if run.name == name]
                look = looks[_entry(name)]
                x, y = _median([run for run in same if run.finished] or same, column)
                marker = "." if len(x) == 1 else None
                axes.plot(x, y, look.line, color=look.color, marker=marker, label=_legend(same))
                if mark is not None and (met := np.flatnonzero(y >= 100 * mark)).size:
                    axes.plot(x[met[0]], y[met[0]], color=look.color, marker=look.marker)
            if mark is not None:
                final = f"{label(baseline)}'s final accuracy"
                axes.axhline(100 * mark, color=style.INK, linewidth=0.9, zorder=1, label=final)
            axes.set_xlim(left=0)
            axes.set_xlabel(text)
            axes.grid(axis="y", color=style.FAINT, linewidth=0.6)
        left.set_ylabel("validation top-1 accuracy (%)")
        risen = [_percent(r)[math.ceil(_RISE * r.settings["epochs"]) - 1 :] for r in runs]
        if len(values := np.concatenate(risen)):
            margin = 0.05 * max(np.ptp(values), 1.0)
            left.set_ylim(values.min() - margin, values.max() + margin)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7)
    return figure


def _percent(run: Run) -> np.ndarray:
    return 100 * run.log["validation_accuracy"].to_numpy()


def _median(runs: Sequence[Run], column: str) -> tuple[np.ndarray, np.ndarray]:
    # Cut to the shortest: else the last accuracy of an unfinished run would count as its final one.
    length = min(len(run.log) for run in runs)
    return median_curve(
        [(run.log[column].to_numpy()[:length], _percent(run)[:length]) for run in runs]
    )


def _legend(runs: Sequence[Run]) -> str:
    parts = [label(runs[0].name), f"{runs[0].settings['epochs']} epochs"]
    if len(runs) > 1:
        parts.append(f"{len(runs)} seeds")
    if unfinished := sum(not run.finished for run in runs):
        parts.append(f"{unfinished} unfinished")
    return ", ".join(parts)


def write_report(folder: Path, output: Path, baseline: str = "sgd") -> tuple[str, list[Path]]:
    """Reads the runs in `folder` and writes a table, a figure and a page into `output`.

    Returns:
      what a terminal shows, and the files.

    Raises:
      UserError: there is no run that can be read, or `output` cannot be written to.
    """
    runs, problems = read_runs(folder)
    if not runs:
        reasons = "; ".join(problems) or "no folders NAME/seed_N"
        raise UserError(f"--runs={folder}: no run to report on: {reasons}")
    summarised = summary(runs, baseline)
    notes = [*remarks(runs, baseline), *problems]
    files.make_directory(output)
    pictures = style.save(accuracy_curves(runs, baseline), output, "imagenet")
    page = [
        f"# {title(runs)}",
        table(summarised, baseline),
        f"Trained on {'; '.join(sorted({run.machine for run in runs}))}. {_MEANING}",
        "![top-1 accuracy](imagenet.png)",
        *(f"- {note}" for note in notes),
    ]
    files.write_text(output / "report.md", "\n\n".join(page) + "\n")
    files.write_text(output / "runs.csv", summarised.to_csv(index=False))
    shown = [table(summarised, baseline, "simple"), *(f"note: {note}" for note in notes)]
    return "\n".join(shown), [output / "report.md", output / "runs.csv", *pictures]


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("runs", None, "folder with the runs' folders, NAME/seed_N", required=True)
    flags.DEFINE_string("output", None, "folder for the report", required=True)
    flags.DEFINE_string("baseline", "sgd", "the run whose final accuracy the others are to reach")


def main(argv: Sequence[str]) -> None:
    """Writes the report that the flags describe."""
    del argv
    values = flags.FLAGS
    shown, written = write_report(Path(values.runs), Path(values.output), values.baseline)
    print(shown)
    for path in written:
        print(path, file=sys.stderr)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
