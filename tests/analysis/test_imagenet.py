"""The report on ImageNet runs, on made-up logs: nothing here was trained."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis import imagenet
from common.cli import UserError
from scripts.imagenet.train import COLUMNS


def write_run(output, name, final, hours, done=None, seed=0):
    """The files of a run whose accuracy rises to `final`; of `done` epochs if it is unfinished."""
    folder = output / name / f"seed_{seed}"
    folder.mkdir(parents=True)
    planned = 90 if name == "sgd" else 60
    epochs = np.arange(1, planned + 1)
    log = pd.DataFrame(0.0, index=range(planned), columns=list(COLUMNS))
    log["epoch"], log["seconds"] = epochs, 3600 * hours * epochs / planned
    log["validation_accuracy"] = final * np.minimum(1, epochs / (planned - 10))
    log[: done or planned].to_csv(folder / "log.csv", index=False)
    settings = {"name": name, "seed": seed, "data": "imagenet", "epochs": planned}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "meta_data_0.json").write_text(json.dumps({"device": "a GPU", "nproc": 8}))
    if done is None:
        (folder / "status.json").write_text("{}")
    return folder


def test_epochs_and_hours_to_the_baselines_final_accuracy(tmp_path):
    write_run(tmp_path, "sgd", 0.75, 9.0)
    write_run(tmp_path, "shampoo", 0.80, 6.0)
    table = imagenet.summary(imagenet.read_runs(tmp_path)).set_index("run")
    assert table["final_accuracy"].tolist() == pytest.approx([0.75, 0.80])
    assert table["epochs_to_reference"].tolist() == [80, 47]  # 0.75 / 0.80 of 50 is 46.9
    assert table["hours_to_reference"].tolist() == pytest.approx([8.0, 4.7])
    assert table["epochs_ratio"].tolist() == pytest.approx([1, 47 / 80])
    assert table["hours_ratio"].tolist() == pytest.approx([1, 4.7 / 8])
    shown = imagenet.write_report(tmp_path, tmp_path / "report")
    assert "Trained on 8 x a GPU." in shown and "Unfinished" not in shown
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"report.md", "runs.csv", "imagenet.png", "imagenet.svg"}


def test_unfinished_runs_are_no_results(tmp_path):
    write_run(tmp_path, "sgd", 0.75, 9.0, done=85)
    write_run(tmp_path, "shampoo", 0.80, 6.0, done=20)
    logs = imagenet.read_runs(tmp_path)
    table = imagenet.summary(logs)
    for column in ("final_accuracy", "epochs_to_reference", "hours_ratio"):
        assert table[column].isna().all()
    notes = imagenet.remarks(logs)
    assert "Unfinished: sgd, seed 0." in notes and any("No run of sgd" in note for note in notes)
    write_run(tmp_path, "sgd", 0.85, 9.0, seed=1)
    table = imagenet.summary(imagenet.read_runs(tmp_path)).set_index(["run", "seed"])
    assert np.isnan(table.loc[("shampoo", 0), "epochs_ratio"])


def test_damaged_and_missing_runs_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no NAME/seed_N/log\.csv"):
        imagenet.read_runs(tmp_path)
    log = write_run(tmp_path, "sgd", 0.75, 9.0) / "log.csv"
    whole = log.read_text()
    impossible = whole.replace(",0.75,", ",1e308,")
    assert impossible != whole
    for content in ("epoch,step\n1,x\n", "epoch,seconds\n2,1\n", "epoch\n1\n", impossible):
        log.write_text(content)
        with pytest.raises(UserError, match=r"sgd/seed_0/log\.csv is damaged"):
            imagenet.read_runs(tmp_path)
