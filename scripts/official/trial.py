"""A trial under the official runner, and the runner's flags for it."""

import dataclasses
from pathlib import Path

from common import files
from scripts.local.entry_info import SPACE
from scripts.local.trial import Trial
from scripts.official.entry import OfficialEntry
from workloads import rulesets
from workloads.official.facts import NEWEST, OfficialFacts
from workloads.registry import official
from workloads.search_space import Point

# The runner takes 0 as no seed, and NumPy takes none from here on.
_SEEDS = 2**31 - 2


@dataclasses.dataclass(frozen=True)
class OfficialTrial:
    """A trial with its entry and its list of points.

    Attributes:
      trial: as for stand-ins; without hyperparameters under the self-tuning ruleset.
      entry: the submission that the runner imports.
      drawn: the list of points that the runner gets, where it is not the entry's own file.
      version: of the benchmark, whose targets and budgets hold.
      torch_compile: whether the runner compiles the model.
    """

    trial: Trial
    entry: OfficialEntry
    drawn: tuple[Point, ...] | None = None
    version: str = NEWEST
    torch_compile: bool = True

    @property
    def facts(self) -> OfficialFacts:
        """The workload's row of the registry."""
        return official(self.trial.workload, self.version)

    @property
    def budget_seconds(self) -> float:
        """Submission time that the trial may use."""
        return rulesets.ruleset(self.version, self.entry.ruleset).budget_seconds(
            self.trial.workload
        )

    @property
    def rng_seed(self) -> int:
        """The value of `--rng_seed`, from 1 to 2**31 - 2; equal for all entries and points."""
        return self.trial.rng_seed % _SEEDS + 1

    def directory(self, output: Path) -> Path:
        """The folder of the trial's files, if the runner's --experiment_dir is `output`."""
        return dataclasses.replace(self.trial, framework=self.entry.framework).directory(output)

    def space(self, output: Path) -> Path | None:
        """The list of points that the runner gets."""
        return self.entry.space if self.drawn is None else self.directory(output) / SPACE

    def write_space(self, output: Path) -> None:
        """Writes the drawn points beside the trial's logs."""
        if self.drawn is not None:
            files.write_json(self.directory(output) / SPACE, list(self.drawn))

    def flags(self, output: Path) -> dict[str, str | int | bool]:
        """The runner's flags that identify the trial; `output` is absolute.

        A list of points is read in its order, and `hparam_start_index` leaves out what comes before
        the trial's. Ranges would be shuffled without a seed.
        """
        chosen: dict[str, str | int | bool] = {
            "framework": self.entry.framework,
            "workload": self.trial.workload,
            "submission_path": self.entry.runner_path,
            "tuning_ruleset": "self",
        }
        if (space := self.space(output)) is not None:
            chosen |= {
                "tuning_ruleset": "external",
                "tuning_search_space": str(space),
                "num_tuning_trials": len(self.drawn or self.entry.points()),
                "hparam_start_index": self.trial.trial - 1,
                "hparam_end_index": self.trial.trial,
            }
        chosen |= {
            "experiment_dir": str(output),
            "experiment_name": f"{self.entry.name}/study_{self.trial.study}",
            "rng_seed": self.rng_seed,
            "torch_compile": self.torch_compile,
        }
        if self.trial.max_steps is not None:
            chosen["max_global_steps"] = self.trial.max_steps
        return chosen

    def recorded(self) -> dict[str, str | int | bool | None]:
        """The values in flags_N.json that identify the trial; other values are another trial's."""
        names = ("framework", "workload", "submission_path", "tuning_ruleset", "rng_seed")
        chosen = self.flags(Path("/"))
        return {
            **{name: chosen[name] for name in names},
            "torch_compile": self.torch_compile,
            "max_global_steps": self.trial.max_steps,
        }
