"""Rules of counting and scoring per version: studies, trials, budgets, scored workloads.

>>> ruleset("v0.5", "external").held_out["ogbg"]
('ogbg_model_size',)
>>> ruleset("v0.6", "self_tuning").budget_seconds("wmt")
65004.0
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from common.cli import UserError
from workloads import registry
from workloads.official.facts import NEWEST, RULES, VERSIONS

STANDIN = "standin"

_TRIALS = {"external": 5, "self_tuning": 1}


@dataclasses.dataclass(frozen=True)
class Ruleset:
    """The rules that a set of logs is scored by.

    Attributes:
      version: of the benchmark, or `standin` for the workloads that run here.
      name: `external` (five points, the best one counts) or `self_tuning` (no hyperparameters).
      studies: repeats per workload, over which the median is taken.
      trials: points per study.
      base_workloads: over which the score is averaged.
      held_out: by base workload, the variants that must be reached for the base to count.
      budget_factor: times the external budget.
      max_ratio: times the fastest submission's time, beyond which a time counts as not reached.
      budgets: external budgets in seconds by workload, where logs have others than the version.
    """

    version: str
    name: str
    studies: int
    trials: int
    base_workloads: tuple[str, ...]
    held_out: Mapping[str, tuple[str, ...]] = dataclasses.field(hash=False)
    budget_factor: float
    max_ratio: float = 4.0
    budgets: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)

    @property
    def workloads(self) -> tuple[str, ...]:
        """All that a submission is run on: base workloads, then the held-out variants."""
        return (*self.base_workloads, *(v for base in self.held_out.values() for v in base))

    def budget_seconds(self, workload: str) -> float:
        """Submission time that one trial on `workload` may use; UserError for an unknown one."""
        version = None if self.version == STANDIN else self.version
        row = registry.facts(workload, version)
        return self.budget_factor * self.budgets.get(workload, row.max_runtime_seconds)


def ruleset(version: str, name: str = "external") -> Ruleset:
    """The rules of a version.

    Args:
      version: of the benchmark, or `standin`, which has the rules of v1.0.
      name: `external`, or `self_tuning` for official versions.

    Raises:
      UserError: for an unknown version or name.
    """
    if version not in (*VERSIONS, STANDIN):
        known = ", ".join((*VERSIONS, STANDIN))
        raise UserError(f"unknown benchmark version {version!r}; known: {known}")
    allowed = ("external",) if version == STANDIN else tuple(_TRIALS)
    if name not in allowed:
        raise UserError(f"{version} has no ruleset {name!r}; it has {', '.join(allowed)}")
    is_standin = version == STANDIN
    rules = RULES[NEWEST if is_standin else version]
    held_out = {base: tuple(variants) for base, variants in rules.held_out.items()}
    return Ruleset(
        version=version,
        name=name,
        studies=rules.studies,
        trials=_TRIALS[name],
        base_workloads=tuple(registry.names("standin")) if is_standin else rules.base_workloads,
        held_out=MappingProxyType(held_out),
        budget_factor=rules.self_tuning_factor if name == "self_tuning" else 1.0,
    )
