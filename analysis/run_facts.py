"""What a trial's own log says of its run: rules, budget and machine; and which version that is."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.trial_files import read_object
from common import files
from scripts.local.metrics_log import DamagedError
from workloads.official.facts import OFFICIAL, RULES

_TUNING = {"self": "self_tuning", "external": "external"}
# In prose, without what all of them have in common.
_MAKERS = ("NVIDIA ", "Tesla ", "(R)", "(TM)")


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """Facts of one trial's run; empty or NaN where the log does not say.

    Attributes:
      hardware: number and kind of its GPUs, or its CPU.
      gpus: their number.
      tuning: the ruleset that the runner was told, `external` or `self_tuning`.
      budget_seconds: submission time of one trial under external tuning.
      period_seconds: submission time between evaluations.
      step_hint: the workload's.
      target: the validation target.
    """

    hardware: str = ""
    gpus: float = math.nan
    tuning: str = ""
    budget_seconds: float = math.nan
    period_seconds: float = math.nan
    step_hint: float = math.nan
    target: float = math.nan


def read_run_facts(folder: Path) -> RunFacts:
    """The facts that the runner wrote when the trial in `folder` last started.

    Raises:
      DamagedError: a file cannot be trusted; the message names it.
    """
    meta_data, given = _newest(folder, "meta_data"), _newest(folder, "flags")
    # The benchmark's runner counts a machine's GPUs, of which `scripts.official` may have given it
    # some.
    gpus = _number(_newest(folder, "launch").get("gpus", meta_data.get("gpu_count")))
    tuning = given.get("tuning_ruleset")
    return RunFacts(
        hardware=_hardware(meta_data, gpus),
        gpus=gpus,
        tuning=_TUNING.get(tuning, "") if isinstance(tuning, str) else "",
        budget_seconds=_number(meta_data.get("workload.max_allowed_runtime_sec")),
        period_seconds=_number(meta_data.get("workload.eval_period_time_sec")),
        step_hint=_number(meta_data.get("workload.step_hint")),
        target=_number(meta_data.get("workload.validation_target_value")),
    )


def _newest(folder: Path, stem: str) -> Mapping[str, Any]:
    """What the runner wrote under that name at its last start; empty if it wrote nothing."""
    path = files.newest(folder, stem)
    if path is None:
        return {}
    try:
        return read_object(path)
    except DamagedError as error:
        raise DamagedError(f"{path.name} {error}") from error


def _hardware(meta_data: Mapping[str, Any], count: float) -> str:
    name = meta_data.get("gpu_model_name")
    if isinstance(name, str) and count > 0:
        return f"{count:.0f} x {_short(name)}"
    name = meta_data.get("cpu_model_name")
    return _short(name) if isinstance(name, str) else ""


def _short(name: str) -> str:
    for maker in _MAKERS:
        name = name.replace(maker, "")
    return " ".join(name.split())


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else math.nan


def versions_of(workload: str, facts: RunFacts) -> list[str]:
    """The versions of the benchmark whose budget, period and step hint of a workload a log has.

    >>> versions_of("wmt", RunFacts(budget_seconds=16114, period_seconds=644, step_hint=120000))
    ['v1.0']
    >>> versions_of("mnist", RunFacts(budget_seconds=60, period_seconds=10, step_hint=7813))
    ['v0.5', 'v0.6', 'v1.0']
    """
    logged = (facts.budget_seconds, facts.period_seconds, facts.step_hint)
    return [
        version
        for version, rows in OFFICIAL.items()
        if workload in rows
        and logged
        == (
            rows[workload].max_runtime_seconds,
            rows[workload].eval_period_seconds,
            rows[workload].step_hint,
        )
    ]


def version_of(runs: Iterable[tuple[str, RunFacts]]) -> tuple[str | None, int]:
    """The version that most runs have the facts of, and how many; None without any.

    Where several have as many, that with most runs on its kind of GPUs; then the newest.

    Args:
      runs: workload and facts of each.
    """
    counts = dict.fromkeys(OFFICIAL, (0, 0))
    for workload, facts in runs:
        for version in versions_of(workload, facts):
            same, on_gpus = counts[version]
            counts[version] = same + 1, on_gpus + is_hardware_of(version, facts)
    best = max(reversed(counts), key=lambda version: counts[version])
    return (best, counts[best][0]) if counts[best][0] else (None, 0)


def is_hardware_of(version: str, facts: RunFacts) -> bool:
    """Whether a run was on the number and kind of GPUs that a version's budgets are for."""
    rules = RULES[version]
    return facts.gpus == rules.gpus and rules.gpu in facts.hardware


def other_hardware(version: str, runs: Iterable[RunFacts]) -> list[str]:
    """The hardware that runs were on and a version's budgets are not for."""
    others = (facts for facts in runs if not is_hardware_of(version, facts))
    return sorted({facts.hardware for facts in others} - {""})


def hardware_of(version: str) -> str:
    """The hardware of a version in words.

    >>> hardware_of("v1.0")
    '4 x A100'
    """
    return f"{RULES[version].gpus} x {RULES[version].gpu}"


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names for a sentence, the first few where there are many.

    >>> listed(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
