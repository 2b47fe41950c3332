"""Where runs were made by other rules or on other machines than they are compared by."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.evaluations import Problem
from analysis.layout import TrialKey
from analysis.run_facts import RunFacts, hardware_of, listed, other_hardware, versions_of
from analysis.scoring import CELL_KEYS
from workloads import registry
from workloads.rulesets import STANDIN, Ruleset

# A study this many times slower per step than the others of its submission ran elsewhere, or beside
# something else; on one kind of machine studies differ by a few percent.
_SLOW = 1.5
# Relative; targets are logged in full precision.
_SAME = 1e-9

Runs = Mapping[TrialKey, RunFacts]


def run_problems(
    runs: Runs, trials: pd.DataFrame, rules: Ruleset, directory: Path
) -> list[Problem]:
    """Warnings on mixed or other hardware, versions and rulesets, and on slow studies.

    Args:
      runs: as `analysis.logs.Logs.runs`.
      trials: as `analysis.scoring.score_trials` returns.
      rules: the rules that the trials are judged by.
      directory: the folder or table of logs.
    """
    reasons = [*_hardware(runs, rules), *_slow_studies(trials)]
    if rules.version != STANDIN:
        reasons += [*_unscored(trials, rules), *_other_rules(runs, rules)]
    return [Problem(directory, reason, is_warning=True) for reason in reasons]


def budgets_of(runs: Runs, rules: Ruleset) -> dict[str, float]:
    """External budgets by workload, where all logs agree on another one than the version's."""
    if rules.version == STANDIN:
        return {}
    logged = defaultdict(set)
    for key, facts in runs.items():
        if np.isfinite(facts.budget_seconds):
            logged[key[1]].add(facts.budget_seconds)
    known = registry.names("official", rules.version)
    return {
        workload: min(seconds)
        for workload, seconds in logged.items()
        if len(seconds) == 1
        and workload in known
        and seconds != {registry.facts(workload, rules.version).max_runtime_seconds}
    }


def _hardware(runs: Runs, rules: Ruleset) -> Iterator[str]:
    by_hardware = defaultdict(list)
    for key, facts in runs.items():
        if facts.hardware:
            by_hardware[facts.hardware].append(key)
    if len(by_hardware) > 1:
        parts = [
            f"{len(keys)} trials of {listed(sorted({key[0] for key in keys}))} on {hardware}"
            for hardware, keys in sorted(by_hardware.items())
        ]
        yield f"hardware is mixed, so seconds cannot be compared: {'; '.join(parts)}"
    if rules.version == STANDIN:
        return
    if others := other_hardware(rules.version, runs.values()):
        yield (
            f"runs on {listed(others)}; {rules.version}'s budgets and published times are for "
            f"{hardware_of(rules.version)}, so seconds compare with nothing published"
        )


def _unscored(trials: pd.DataFrame, rules: Ruleset) -> Iterator[str]:
    for workload, rows in trials.groupby("workload"):
        if workload not in rules.workloads:
            names = listed(sorted(set(rows["submission"])))
            yield (
                f"workload {workload} is not scored, {rules.version} does not count it: "
                f"{len(rows)} trials of {names}"
            )


def _other_rules(runs: Runs, rules: Ruleset) -> Iterator[str]:
    """Logs with facts of another version or of none, another target or another ruleset."""
    reasons: defaultdict[str, list[TrialKey]] = defaultdict(list)
    known = registry.names("official", rules.version)
    for key, facts in runs.items():
        workload = key[1]
        if workload not in known:
            continue
        row = registry.facts(workload, rules.version)
        versions = versions_of(workload, facts)
        due = {
            "budget": (facts.budget_seconds, row.max_runtime_seconds, " s"),
            "evaluation period": (facts.period_seconds, row.eval_period_seconds, " s"),
            "step hint": (facts.step_hint, row.step_hint, ""),
        }
        differing = [
            f"{name} {logged:g}{unit} instead of {expected:g}{unit}"
            for name, (logged, expected, unit) in due.items()
            if np.isfinite(logged) and logged != expected
        ]
        if differing:
            by = f"by {versions[-1]}'s rules" if versions else "by rules of no known version"
            reasons[f"workload {workload} was run {by}: {', '.join(differing)}"].append(key)
        target = row.validation_target
        if target is not None and abs(facts.target - target) > _SAME * abs(target):
            reason = f"the target in the log is {facts.target:g}; judged by {target:g}"
            reasons[f"workload {workload}: {reason}"].append(key)
        if facts.tuning and facts.tuning != rules.name:
            reasons[f"run under the {facts.tuning} ruleset, judged by the {rules.name} one"].append(
                key
            )
    for reason, keys in reasons.items():
        names = listed(sorted({key[0] for key in keys}))
        yield f"{reason} ({len(keys)} trials of {names})"


def _slow_studies(trials: pd.DataFrame) -> Iterator[str]:
    for (submission, workload), rows in trials.groupby(CELL_KEYS):
        pace = rows.groupby("study")["steady_seconds_per_step"].median().dropna()
        for study in pace.index:
            others = float(pace.drop(study).median()) if len(pace) > 1 else np.nan
            if pace[study] > _SLOW * others > 0:
                times = f"{pace[study] / others:.2f} times as long as its other studies"
                yield (
                    f"{submission}: workload {workload}, study {study} took {pace[study]:.3g} s a "
                    f"step, {times}: a slower machine, or something beside it"
                )
