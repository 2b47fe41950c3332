"""The report on ImageNet runs, on made-up logs: nothing here was trained."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import imagenet
from analysis.imagenet import read_runs
from common.cli import UserError
from scripts.imagenet import config as configs
from scripts.imagenet.data import Source
from scripts.imagenet.train import COLUMNS, Experiment
from tests.analysis.looks import flaws


def write_run(
    output: Path,
    name: str,
    final: float,
    hours: float,
    seed: int = 0,
    done: int | None = None,
    device: str = "a GPU",
    **changes: Any,
) -> Path:
    """The files of a run whose accuracy rises to `final`; of `done` epochs if it is unfinished."""
    config = configs.read(configs.find(name))
    experiment = Experiment(name, config, Source(Path("data")), seed)
    folder = experiment.directory(output)
    folder.mkdir(parents=True)
    epochs = np.arange(1, config.epochs + 1)
    noise = 0.004 * np.sin(7.0 * epochs + seed) * (1 - epochs / config.epochs)
    log = pd.DataFrame(0.0, index=range(len(epochs)), columns=list(COLUMNS))
    log["epoch"], log["step"] = epochs, 1251 * epochs
    log["seconds"] = 3600 * hours * epochs / config.epochs
    log["validation_accuracy"] = final * (1 - np.exp(-5 * epochs / config.epochs)) + noise
    log["validation_accuracy"] += final - log["validation_accuracy"].iloc[-1]
    log[: done or config.epochs].to_csv(folder / "log.csv", index=False)
    (folder / "config.json").write_text(json.dumps(experiment.settings() | changes))
    (folder / "meta_data_0.json").write_text(json.dumps({"device": device, "nproc": 8}))
    if done is None:
        (folder / "status.json").write_text("{}")
    return folder


def summary(output: Path) -> pd.DataFrame:
    return imagenet.summary(read_runs(output)[0], "sgd").set_index(["run", "seed"])


def test_epochs_and_hours_to_the_baselines_final_accuracy(tmp_path: Path) -> None:
    write_run(tmp_path, "sgd", 0.765, 9.0)
    write_run(tmp_path, "shampoo", 0.772, 7.0)
    table = summary(tmp_path)
    sgd, shampoo = table.loc[("sgd", 0)], table.loc[("shampoo", 0)]
    assert sgd["final_accuracy"] == pytest.approx(0.765)
    log = read_runs(tmp_path)[0][1].log
    first = next(row for row in log.itertuples() if row.validation_accuracy >= 0.765)
    assert 30 < shampoo["epochs_to_reference"] == first.epoch < 60
    assert shampoo["hours_to_reference"] == pytest.approx(7.0 * first.epoch / 60)
    base = sgd["epochs_to_reference"]
    assert base <= 90 and sgd["epochs_ratio"] == sgd["hours_ratio"] == 1
    assert shampoo["epochs_ratio"] == pytest.approx(first.epoch / base)
    assert shampoo["hours_ratio"] == pytest.approx(7.0 / 60 * first.epoch / (0.1 * base))
    text, written = imagenet.write_report(tmp_path, tmp_path / "report")
    assert "note:" not in text and "60 of 60" in text and "77.20%" in text
    names = {path.name for path in written}
    assert names == {"report.md", "runs.csv", "imagenet.png", "imagenet.svg"}
    page = (tmp_path / "report" / "report.md").read_text()
    assert page.startswith("# ResNet-50 on ImageNet\n") and "8 x a GPU" in page
    assert pd.read_csv(tmp_path / "report" / "runs.csv")["finished"].tolist() == [True, True]


@pytest.mark.parametrize("done", [1, 3])
def test_a_run_that_has_just_begun_is_drawn(tmp_path: Path, done: int) -> None:
    write_run(tmp_path, "shampoo", 0.772, 7.0, done=done)
    left, _ = imagenet.accuracy_curves(read_runs(tmp_path)[0], "sgd").axes
    assert [len(curve.get_xdata()) for curve in left.lines] == [done]


def test_unfinished_runs_are_no_results(tmp_path: Path) -> None:
    write_run(tmp_path, "sgd", 0.765, 9.0, done=80)
    write_run(tmp_path, "shampoo", 0.772, 7.0, done=20)
    table = summary(tmp_path)
    assert table["final_accuracy"].isna().all() and table["epochs_to_reference"].isna().all()
    notes = imagenet.remarks(read_runs(tmp_path)[0], "sgd")
    assert "Nesterov SGD, seed 0 is unfinished: 80 of 90 epochs." in notes
    assert "No run of Nesterov SGD has finished: nothing to measure the others by." in notes
    write_run(tmp_path, "sgd", 0.765, 9.0, seed=1)
    row = summary(tmp_path).loc[("shampoo", 0)]
    assert math.isnan(row["epochs_to_reference"]) and math.isnan(row["hours_ratio"])


def test_unlike_runs_and_missing_sides_are_told(tmp_path: Path) -> None:
    write_run(tmp_path, "sgd", 0.765, 9.0, data="generated, 320 images")
    runs, _ = read_runs(tmp_path)
    assert imagenet.title(runs) == "A ResNet on generated images: no ImageNet result"
    assert imagenet.remarks(runs, "sgd") == [
        "There is no run but Nesterov SGD's: nothing is compared."
    ]
    write_run(tmp_path, "shampoo", 0.70, 7.0, device="another", batch_size=512)
    assert summary(tmp_path).loc[("shampoo", 0), "epochs_to_reference"] == math.inf
    text, _ = imagenet.write_report(tmp_path, tmp_path / "report")
    assert "not reached" in text
    assert "Times are not comparable: 8 x a GPU; 8 x another." in text
    assert "The runs differ in batch_size: 1024, 512." in text


HEADER = ",".join(COLUMNS)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("log.csv", f"{HEADER}\n1,1,1,1,1,1,1", "a line is cut off"),
        ("log.csv", "epoch,step\n1,2\n", "is damaged: .*seconds"),
        ("log.csv", f"{HEADER}\n2,1,1,1,1,1,1\n", "its epochs are not 1, 2, 3"),
        ("log.csv", f"{HEADER}\n1,1,1,x,1,1,1\n", "is damaged"),
        ("log.csv", f"{HEADER}\n1,1,1,1,1,1,1\n", "has 1 epochs of 60, all done"),
        ("config.json", "[]", "does not say what was trained"),
    ],
    ids=str,
)
def test_damaged_runs_are_left_out_and_named(
    tmp_path: Path, file: str, content: str, reason: str
) -> None:
    write_run(tmp_path, "sgd", 0.765, 9.0)
    folder = write_run(tmp_path, "shampoo", 0.772, 7.0)
    (folder / file).write_text(content)
    runs, (problem,) = read_runs(tmp_path)
    assert [run.name for run in runs] == ["sgd"]
    assert str(folder) in problem and re.search(reason, problem)


def test_no_run_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run to report on: no folders NAME/seed_N"):
        imagenet.write_report(tmp_path, tmp_path / "report")
    (write_run(tmp_path, "sgd", 0.765, 9.0, done=1) / "log.csv").unlink()
    with pytest.raises(UserError, match="no epoch has been evaluated yet"):
        imagenet.write_report(tmp_path, tmp_path / "report")


@pytest.mark.parametrize("hours", [9.0, 0.01])
def test_the_figure_can_be_read(tmp_path: Path, hours: float) -> None:
    for seed in range(3):
        write_run(tmp_path, "sgd", 0.765 + 0.001 * seed, hours, seed)
        write_run(tmp_path, "shampoo", 0.772, 0.7 * hours, seed, 33 if seed == 2 else None)
    figure = imagenet.accuracy_curves(read_runs(tmp_path)[0], "sgd")
    assert flaws(figure) == []
    left, right = figure.axes
    curve = next(line for line in left.lines if line.get_label().startswith("Shampoo"))
    assert curve.get_ydata()[-1] == pytest.approx(77.2), "of finished runs"
    assert left.get_xlim()[1] > 89
    assert right.get_xlabel() == f"training time ({'h' if hours > 1 else 's'})"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(labels) == [
        "Nesterov SGD's final accuracy",
        "Nesterov SGD, 90 epochs, 3 seeds",
        "Shampoo, 60 epochs, 3 seeds, 1 unfinished",
    ]
