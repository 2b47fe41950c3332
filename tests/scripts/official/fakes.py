"""A checkout whose runner only pretends to train, entries for it, and command lines against it."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from scripts.local import environment
from scripts.local.trial import Trial
from scripts.official.command import Node
from scripts.official.entry import find_entry
from scripts.official.trial import OfficialTrial

RUNNER = Path(__file__).parent.parent / "fake" / "fake_submission_runner.py"
SUBMISSION = "def get_batch_size(workload_name):\n    return 16\n"
GOOD, FAILS, BREAKS_AT_THE_END, LEAVES, SLOW = 0.1, 0.5, 0.7, 0.8, 0.9
# The checks that need the benchmark itself, its data, or a machine for as many processes.
SKIP = "--skip_checks=benchmark,version,gpus,batch_size,data,cores"


def make_checkout(folder: Path) -> Path:
    """A checkout with the fake runner."""
    folder.mkdir(parents=True)
    shutil.copy(RUNNER, folder / "submission_runner.py")
    return folder


def make_entry(folder: Path, rates: list[float] | None) -> Path:
    """A packaged entry with one point per rate, or one that tunes itself."""
    folder.mkdir(parents=True)
    (folder / "submission.py").write_text(SUBMISSION)
    if rates is None:
        (folder / "submission_info.yml").write_text("ruleset: self-tuning\n")
    else:
        points = [{"learning_rate": rate} for rate in rates]
        (folder / "tuning_search_space.json").write_text(json.dumps(points))
    return folder


def make_trial(entry: Path, number: int = 1, **changes: Any) -> OfficialTrial:
    """A trial of such an entry on mnist."""
    official = find_entry(str(entry))
    points = official.points()
    trial = Trial("mnist", official.name, 0, number, points[number - 1])
    made = OfficialTrial(trial, official, torch_compile=False)
    return dataclasses.replace(made, **changes)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a test's checkout, entries and logs are."""

    root: Path

    @property
    def output(self) -> Path:
        return self.root / "logs"

    def node(self, gpus: int = 0) -> Node:
        return Node(
            checkout=self.root / "checkout",
            python=Path(sys.executable),
            gpus=gpus,
            data_dir=self.root / "data",
            output=self.output,
        )

    def folder(self, entry: str = "toy", number: int = 1, study: int = 0) -> Path:
        return self.output / entry / f"study_{study}" / "mnist_pytorch" / f"trial_{number}"

    def status(self, **of: Any) -> dict[str, Any]:
        status: dict[str, Any] = json.loads((self.folder(**of) / "status.json").read_text())
        return status

    def command(self, script: str, *flags: str) -> list[str]:
        return [sys.executable, "-m", f"scripts.{script}", *flags]

    def official(self, *flags: str, entry: str = "toy") -> list[str]:
        fixed = (f"--entry={self.root / entry}", f"--experiment_dir={self.output}", "--gpus=0")
        return self.command("official", "--workload=mnist", *fixed, *flags)

    def variables(self) -> dict[str, str]:
        return {
            **os.environ,
            "ALGOPERF_DIR": str(self.root / "checkout"),
            "ALGOPERF_PYTHON": sys.executable,
            "OMP_NUM_THREADS": "1",
        }

    def finish(self, command: list[str], **variables: str) -> "subprocess.CompletedProcess[str]":
        place: dict[str, Any] = {"cwd": environment.ROOT, "env": self.variables() | variables}
        return subprocess.run(command, **place, capture_output=True, text=True, timeout=100)

    def start(self, command: list[str]) -> "subprocess.Popen[bytes]":
        place: dict[str, Any] = {"cwd": environment.ROOT, "env": self.variables()}
        nowhere = subprocess.DEVNULL
        return subprocess.Popen(
            command, **place, stdout=nowhere, stderr=nowhere, start_new_session=True
        )
