"""Why the official runner left a trial's training loop, by what the log itself says.

The runner writes the workload's budget, targets and metric to `meta_data_N.json` and its own flags
to `flags_N.json`, N counting resumes. Logs of another version, machine or ruleset are so judged by
their own rules. What a log does not say is the registry's.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from common import files
from common.cli import UserError
from scripts.official.trial import OfficialTrial
from workloads import registry
from workloads.official.facts import RULES, VERSIONS

META, FLAGS = "meta_data", "flags"

Rows = Sequence[Mapping[str, str]]


@dataclasses.dataclass(frozen=True)
class Limits:
    """The conditions under which a trial's runner leaves its training loop.

    Attributes:
      budget_seconds: of submission time, the ruleset's factor included.
      max_steps: of `--max_global_steps`.
      targets: by split; a split without a target counts as met.
    """

    budget_seconds: float
    max_steps: int | None
    targets: Mapping[str, float]


def limits(trial: OfficialTrial, directory: Path) -> Limits:
    """The limits of a trial in its folder."""
    meta, flags = _newest(directory, META), _newest(directory, FLAGS)
    facts = trial.facts
    known = {"validation": facts.validation_target, "test": facts.test_target}
    budget, max_steps = trial.budget_seconds, trial.trial.max_steps
    targets = {split: target for split, target in known.items() if target is not None}
    seconds = meta.get("workload.max_allowed_runtime_sec")
    if _is_number(seconds):
        ruleset = flags.get("tuning_ruleset")
        tunes_itself = ruleset == "self" or (
            ruleset is None and trial.entry.ruleset == "self_tuning"
        )
        budget = seconds * (_factor(trial, seconds) if tunes_itself else 1)
        logged = {split: meta.get(f"workload.{split}_target_value") for split in known}
        targets = {split: value for split, value in logged.items() if _is_number(value)} or targets
    if "max_global_steps" in flags:
        max_steps = flags["max_global_steps"]
    return Limits(budget, max_steps, targets)


def reason(
    trial: OfficialTrial, directory: Path, evaluations: Rows, step: int, seconds: float
) -> str:
    """`targets`, `time`, `steps` or `submission`, which ended its training itself.

    Args:
      directory: the trial's folder.
      evaluations: rows of its eval_measurements.csv.
      step, seconds: the last step, and the submission time after it.
    """
    facts, allowed = trial.facts, limits(trial, directory)

    def is_met(split: str, target: float) -> bool:
        values = (float(row.get(f"{split}/{facts.metric}") or "nan") for row in evaluations)
        return any(facts.meets(value, target) for value in values)

    if all(is_met(split, target) for split, target in allowed.targets.items()):
        return "targets"
    if seconds >= allowed.budget_seconds:
        return "time"
    if allowed.max_steps is not None and step >= allowed.max_steps:
        return "steps"
    return "submission"


def _factor(trial: OfficialTrial, seconds: float) -> float:
    """The self-tuning ruleset's factor in the version that has this budget, else the trial's."""
    name = trial.trial.workload
    versions = [v for v in VERSIONS if name in registry.names("official", v)]
    fits = [v for v in versions if registry.official(name, v).max_runtime_seconds == seconds]
    version = trial.version if trial.version in fits or not fits else fits[-1]
    return RULES[version].self_tuning_factor


def _newest(directory: Path, stem: str) -> Mapping[str, Any]:
    """The content of the last `stem_N.json`; empty if there is none or it is damaged."""
    path = files.newest(directory, stem)
    try:
        content = {} if path is None else files.read_json(path)
    except UserError:
        return {}
    return content if isinstance(content, dict) else {}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
