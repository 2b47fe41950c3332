"""The folders that `scripts.imagenet` writes, one per run, each read strictly."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import style
from analysis.evaluations import Problem
from common import files
from common.cli import UserError

LOG = "log.csv"
SETTINGS = "config.json"
STATUS = "status.json"
_COLUMNS = (
    "epoch",
    "step",
    "seconds",
    "train_loss",
    "validation_loss",
    "validation_accuracy",
    "lr",
)
_NEEDED = ("name", "seed", "data", "epochs")


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One run.

    Attributes:
      name, seed: of its folders.
      settings: its config.json.
      log: one row per epoch, with the columns of log.csv and `hours` of training.
      finished: whether it has come to its end.
      machine: devices that it ran on.
    """

    name: str
    seed: int
    settings: dict[str, Any]
    log: pd.DataFrame
    finished: bool
    machine: str

    @property
    def title(self) -> str:
        """How a person calls it."""
        return f"{label(self.name)}, seed {self.seed}"

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


def style_key(name: str) -> str:
    """The entry whose name and colour a run has in figures.

    >>> style_key("sgd"), style_key("shampoo")
    ('nesterov', 'shampoo')
    """
    return "nesterov" if name == "sgd" else name


def label(name: str) -> str:
    """A run's name as people write it.

    >>> label("sgd"), label("shampoo_50")
    ('Nesterov SGD', 'shampoo_50')
    """
    return style.label(style_key(name))


def reference(runs: Sequence[Run], baseline: str) -> float | None:
    """The baseline's final accuracy, the median over its finished seeds; None if there is none."""
    final = [
        run.log["validation_accuracy"].iloc[-1]
        for run in runs
        if run.name == baseline and run.finished
    ]
    return float(np.median(final)) if final else None


def read_runs(folder: Path) -> tuple[list[Run], list[Problem]]:
    """Every run under `folder` that has been evaluated, by name and seed, and what is unusable."""
    runs: list[Run] = []
    problems: list[Problem] = []
    for path in sorted(folder.glob("*/seed_*")):
        try:
            runs.append(_read(path))
        except UserError as error:
            problems.append(Problem(path, str(error).removeprefix(f"{path}: ")))
    return sorted(runs, key=lambda run: (run.name, run.seed)), problems


def _read(folder: Path) -> Run:
    settings = files.read_json(folder / SETTINGS)
    if not isinstance(settings, dict) or not set(_NEEDED) <= set(settings):
        raise UserError(f"{folder / SETTINGS} does not say what was trained")
    if not (folder / LOG).exists():
        raise UserError(f"{folder}: no epoch has been evaluated yet")
    log = _read_log(folder / LOG)
    finished = (folder / STATUS).exists()
    if finished and len(log) != settings["epochs"]:
        raise UserError(f"{folder / LOG} has {len(log)} epochs of {settings['epochs']}, all done")
    machines = set()
    for path in sorted(folder.glob("meta_data_*.json")):
        facts = files.read_json(path)
        machines.add(f"{facts.get('nproc')} x {facts.get('device')}")
    return Run(
        settings["name"],
        settings["seed"],
        settings,
        log,
        finished,
        " and ".join(sorted(machines)) or "an unknown machine",
    )


def _read_log(path: Path) -> pd.DataFrame:
    if not path.read_bytes().endswith(b"\n"):
        raise UserError(f"{path} is damaged: it ends in the middle of a line")
    try:
        log = pd.read_csv(path)
        if missing := [name for name in _COLUMNS if name not in log]:
            raise UserError(f"{path} lacks column {missing[0]!r}")
        log = log.astype(dict.fromkeys(_COLUMNS, float))
    except ValueError as error:  # pandas' own errors are ValueErrors, too
        raise UserError(f"{path} is damaged: {error}") from error
    if log["epoch"].tolist() != list(range(1, len(log) + 1)) or log.empty:
        raise UserError(f"{path} is damaged: its epochs are not 1, 2, 3, and so on")
    if not (log["seconds"].diff().iloc[1:] > 0).all():
        raise UserError(f"{path} is damaged: its seconds do not increase")
    return log.assign(hours=log["seconds"] / 3600)
