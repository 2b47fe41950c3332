"""Stands in for the benchmark's submission_runner.py: the same flags and files, no training.

An evaluation comes every 10 steps, of a second each, and the third one meets both targets of mnist.
The learning rate 0.5 makes a run fail, 0.7 makes it fail in its last checkpoint, 0.8 makes it leave
without a word, and 0.9 makes it miss the targets until its time is up. While a file `hang` is in
--experiment_dir, a run hangs after its first evaluation. An index is written to the working
directory, or read if one is there, as v1.0 does on ImageNet. Files are written as the benchmark's
are: CSV files in place, whole each time, a checkpoint as a ZIP archive after them.
"""

import csv
import importlib
import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

from absl import app, flags

FLAGS = flags.FLAGS
BUDGET = 60.0
for name in ("submission_path", "workload", "tuning_search_space", "experiment_name"):
    flags.DEFINE_string(name, None, "")
for name in ("framework", "imagenet_v2_data_dir", "librispeech_tokenizer_vocab_path", "data_dir"):
    flags.DEFINE_string(name, None, "")
flags.DEFINE_string("experiment_dir", None, "")
flags.DEFINE_enum("tuning_ruleset", "external", ["external", "self"], "")
for name in ("hparam_start_index", "hparam_end_index", "rng_seed", "max_global_steps"):
    flags.DEFINE_integer(name, None, "")
flags.DEFINE_integer("num_tuning_trials", 1, "")
for name in ("torch_compile", "save_checkpoints", "save_intermediate_checkpoints"):
    flags.DEFINE_boolean(name, True, "")
for name in ("overwrite", "profile", "skip_evals"):
    flags.DEFINE_boolean(name, False, "")
flags.DEFINE_boolean("resume_last_run", None, "")
RANK = int(os.environ.get("LOCAL_RANK", "0"))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def append(path: Path, row: dict[str, Any]) -> None:
    rows: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    write_rows(path, [*rows, row])


def restore(folder: Path) -> dict[str, Any]:
    checkpoints = sorted(folder.glob("checkpoint_*"), key=lambda path: int(path.name.split("_")[1]))
    if not checkpoints:
        return {"step": 0, "seconds": 0.0, "accuracy": 0.0, "preemption_count": 0}
    with zipfile.ZipFile(checkpoints[-1]) as archive:
        state: dict[str, Any] = json.loads(archive.read("state"))
    return state | {"preemption_count": state["preemption_count"] + 1}


def save(folder: Path, state: dict[str, Any]) -> None:
    if not FLAGS.save_intermediate_checkpoints:
        for old in folder.glob("checkpoint_*"):
            old.unlink()
    with zipfile.ZipFile(folder / f"checkpoint_{state['step']}", "w") as archive:
        archive.writestr("state", json.dumps(state))


def index_files() -> None:
    index = Path(".imagenet_train_cache_index.json")
    if not index.exists():
        index.write_text(json.dumps({"samples": []}))
    assert json.loads(index.read_text()) == {"samples": []}


def train(folder: Path, point: dict[str, float]) -> None:
    index_files()
    state = restore(folder)
    count = state["preemption_count"]
    (folder / f"meta_data_{count}.json").write_text(json.dumps({"rng_seed": FLAGS.rng_seed}))
    (folder / f"flags_{count}.json").write_text(json.dumps(FLAGS.flag_values_dict()))
    rate = point.get("learning_rate", 0.1)
    while state["accuracy"] < 0.97 and state["step"] != FLAGS.max_global_steps:
        state["step"] += 10
        state["seconds"] += 1.0 if rate != 0.9 else 25.0
        append(folder / "measurements.csv", {"global_step": state["step"], "loss": 0.1})
        if state["seconds"] >= BUDGET:
            break
        if rate == 0.5:
            raise RuntimeError("the loss exploded")
        state["accuracy"] = state["step"] / 30 * 0.98 if rate != 0.9 else 0.1
        times = {name: state["seconds"] for name in ("score", "accumulated_submission_time")}
        quality = {f"{split}/accuracy": state["accuracy"] for split in ("validation", "test")}
        row = {"global_step": state["step"], "preemption_count": count, **times, **quality}
        for name in ("measurements.csv", "eval_measurements.csv"):
            append(folder / name, row)
        save(folder, state)
        while (Path(FLAGS.experiment_dir) / "hang").exists():
            time.sleep(0.05)
    last = {"score": state["seconds"], "global_step": state["step"], "preemption_count": count}
    append(folder / "measurements.csv", last)
    if rate == 0.7:
        raise OSError("No space left on device")
    save(folder, state)


def main(_: list[str]) -> None:
    module = importlib.import_module(FLAGS.submission_path.removesuffix(".py").replace("/", "."))
    print(f"batch size {module.get_batch_size(FLAGS.workload)}, RNG seed {FLAGS.rng_seed}")
    if RANK != 0:
        return
    folder = Path(FLAGS.experiment_dir) / FLAGS.experiment_name
    folder = folder / f"{FLAGS.workload}_{FLAGS.framework}"
    if folder.exists() and not FLAGS.resume_last_run:
        input("Found existing experiment dir with the same name. Do you wish to resume? [y/N]:")
    if FLAGS.tuning_ruleset == "self":
        numbered = [(1, {})]
    else:
        points = json.loads(Path(FLAGS.tuning_search_space).read_text())
        points = list(enumerate(points[: FLAGS.num_tuning_trials], start=1))
        numbered = points[FLAGS.hparam_start_index : FLAGS.hparam_end_index]
    for number, point in numbered:
        trial = folder / f"trial_{number}"
        trial.mkdir(parents=True, exist_ok=True)
        if FLAGS.tuning_ruleset == "external":
            hparams = trial / "hparams.json"
            if hparams.exists():
                point = json.loads(hparams.read_text())
            hparams.write_text(json.dumps(point))
            if point["learning_rate"] == 0.8:
                return
        train(trial, point)


if __name__ == "__main__":
    app.run(main)
