"""Shampoo against Nesterov SGD on ImageNet: curves, and epochs and hours to SGD's final accuracy.

python -m analysis.imagenet --runs=runs/imagenet --output=runs/imagenet/report
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from absl import flags
from matplotlib.figure import Figure

from analysis import style
from common import cli, documents, files
from common.cli import UserError

BASELINE = "sgd"
_MEANING = "Reference: SGD's final top-1 accuracy. Hours are of training, without evaluation."


def read_runs(folder: Path) -> pd.DataFrame:
    """The logs of all runs under `folder`, a row per epoch; UserError for none or a damaged one.

    Columns: log.csv's and run, seed, data, planned_epochs, finished, hours (of training), machine.
    """
    logs = []
    for path in sorted(folder.glob("*/seed_*/log.csv")):
        settings = files.read_json(path.parent / "config.json")
        starts = [files.read_json(start) for start in path.parent.glob("meta_data_*.json")]
        try:
            machines = {f"{start['nproc']} x {start['device']}" for start in starts}
            log = pd.read_csv(io.BytesIO(files.read_bytes(path))).astype(float)
            if not log["validation_accuracy"].between(0, 1).all():
                raise ValueError("a validation_accuracy is not from 0 to 1")
            log["run"], log["seed"] = settings["name"], settings["seed"]
            log["data"], log["planned_epochs"] = settings["data"], settings["epochs"]
            log["finished"] = (path.parent / "status.json").exists()
            log["hours"] = log["seconds"] / 3600
            log["machine"] = " and ".join(sorted(machines))
        except (KeyError, TypeError, ValueError) as error:  # of pandas as well
            raise UserError(f"{path} is damaged: {error}") from error
        if log["epoch"].tolist() != list(range(1, len(log) + 1)):
            raise UserError(f"{path} is damaged: its epochs are not 1, 2, 3, and so on")
        logs.append(log)
    if not logs:
        raise UserError(f"--runs={folder}: no NAME/seed_N/log.csv to report on")
    return pd.concat(logs, ignore_index=True)


def reference(logs: pd.DataFrame) -> float:
    """SGD's final accuracy, the median over its finished seeds; NaN if there is none."""
    finished = logs[(logs["run"] == BASELINE) & logs["finished"]]
    return float(finished.groupby("seed")["validation_accuracy"].last().median())


def summary(logs: pd.DataFrame) -> pd.DataFrame:
    """One row per run.

    What is not known yet is NaN: the final accuracy of an unfinished run, the epochs and hours to
    `reference` of one that has not met it. Ratios are of these two to SGD's median.
    """
    groups = ["run", "seed"]
    table = (
        logs.groupby(groups)
        .agg(
            epochs=("epoch", "last"),
            planned_epochs=("planned_epochs", "last"),
            finished=("finished", "last"),
            final_accuracy=("validation_accuracy", "last"),
            best_accuracy=("validation_accuracy", "max"),
            hours=("hours", "last"),
        )
        .astype({"epochs": int})
    )
    table["final_accuracy"] = table["final_accuracy"].where(table["finished"])
    met = logs[logs["validation_accuracy"] >= reference(logs)].groupby(groups).first()
    baseline = table.index.get_level_values("run") == BASELINE
    for unit, column in (("epochs", "epoch"), ("hours", "hours")):
        table[f"{unit}_to_reference"] = first = met[column].reindex(table.index)
        table[f"{unit}_ratio"] = first / first[baseline & table["finished"]].median()
    return table.reset_index()


def table(summarised: pd.DataFrame, fmt: str = "pipe") -> str:
    """The summary for people: to four digits, a dash for what is not known."""
    digits = summarised.map(lambda value: f"{value:.4g}" if isinstance(value, float) else value)
    shown = digits.where(summarised.notna(), documents.number(None))
    return documents.table(shown.to_dict("records"), fmt=fmt, left=1)


def remarks(logs: pd.DataFrame) -> list[str]:
    """Notes on unfinished and unlike runs and on a missing baseline."""
    last = logs.groupby(["run", "seed"], as_index=False).last()
    notes = [
        f"Unfinished: {run}, seed {seed}."
        for run, seed, done in last[["run", "seed", "finished"]].to_numpy()
        if not done
    ]
    if math.isnan(reference(logs)):
        notes.append("No run of sgd has finished: nothing to measure the others by.")
    notes.append(f"Trained on {'; '.join(last['machine'].unique())}.")
    if "generated" in set(last["data"]):
        notes.append("Generated images: no ImageNet result.")
    return notes


def accuracy_curves(logs: pd.DataFrame) -> Figure:
    """Top-1 accuracy of each run over epochs on the left, over hours of training on the right."""
    names = {"sgd": "nesterov"}
    looks = style.entry_styles(logs["run"].replace(names).unique())
    with style.context(**{"font.size": 8}):
        figure = Figure(figsize=(7.4, 3.4), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for ax, column in zip(axes, ("epoch", "hours"), strict=True):
            for (name, seed), log in logs.groupby(["run", "seed"]):
                look = looks[names.get(name, name)]
                label = f"{look.label}, seed {seed}"
                y = 100 * log["validation_accuracy"]
                ax.plot(log[column], y, look.line, color=look.color, label=label)
            if not math.isnan(mark := reference(logs)):
                ax.axhline(100 * mark, color=style.INK, linewidth=0.9, label="SGD's final accuracy")
        axes[0].set(xlabel="epochs", ylabel="validation top-1 accuracy (%)")
        axes[1].set(xlabel="training time (h)")
        handles, _ = axes[0].get_legend_handles_labels()
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=7)
    return figure


def write_report(folder: Path, output: Path) -> str:
    """Reads the runs in `folder`, writes a table, a figure and a page; what a terminal shows."""
    logs = read_runs(folder)
    summarised, notes = summary(logs), remarks(logs)
    files.make_directory(output)
    style.save(accuracy_curves(logs), output, "imagenet")
    page = ["# ResNet-50 on ImageNet", table(summarised), _MEANING]
    page += ["![top-1 accuracy](imagenet.png)", *(f"- {note}" for note in notes)]
    files.write_text(output / "report.md", "\n\n".join(page) + "\n")
    files.write_text(output / "runs.csv", summarised.to_csv(index=False))
    return "\n".join([table(summarised, "simple"), *(f"note: {note}" for note in notes)])


def main(argv: Sequence[str]) -> None:
    """Writes the report that the flags describe."""
    del argv
    print(write_report(Path(flags.FLAGS.runs), Path(flags.FLAGS.output)))


if __name__ == "__main__":
    flags.DEFINE_string("runs", None, "folder with the runs' folders, NAME/seed_N", required=True)
    flags.DEFINE_string("output", None, "folder for the report", required=True)
    cli.run(main)
