"""An experiment, and what must be the same wherever it goes on."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from scripts.imagenet.config import Config
from scripts.imagenet.data import Source
from workloads.standin import replicas


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that determines a run on a given machine and version.

    Attributes:
      name: the configuration's.
      seed: of the initial weights, the images' order and their augmentation.
    """

    name: str
    config: Config
    source: Source
    seed: int = 0

    def directory(self, output: Path) -> Path:
        """The folder of the run's files."""
        return output / self.name / f"seed_{self.seed}"

    def settings(self) -> dict[str, Any]:
        """What the files record of the run; one that differs is another run."""
        own = {"name": self.name, "seed": self.seed, "data": self.source.name}
        return own | self.config.plain()

    def identity(self) -> dict[str, dict[str, Any]]:
        """What a snapshot must have been made with, for this process to go on as it would have."""
        process = {
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "nproc": replicas.count(),
        }
        return {"settings": self.settings(), "process": process}
