"""The rules that logs are judged by: as asked, or as the logs themselves say."""

import dataclasses
from collections.abc import Collection

from analysis.logs import TRIAL_KEYS, Logs
from analysis.run_facts import version_of
from workloads import registry
from workloads.official.facts import NEWEST
from workloads.rulesets import STANDIN, Ruleset, ruleset


def choose_rules(
    logs: Logs, version: str | None = None, name: str | None = None
) -> tuple[Ruleset, str]:
    """The rules to judge logs by, and a note for the user on the choice; empty if none is needed.

    Args:
      logs: as `analysis.logs.read_logs` returns.
      version: of the benchmark, or `standin`; None for what most logs say, or else the newest. Logs
        of stand-ins alone are judged as stand-ins whatever it is: no version has them. The base
        workloads are then those that any entry has run.
      name: `external` or `self_tuning`; None for what most logs say. Where none does, one trial per
        study without hyperparameters is taken for self-tuning. Stand-ins have `external` alone.

    Raises:
      UserError: for an unknown version or name, and for one that stand-ins do not have.
    """
    workloads = set(logs.frame["workload"])
    if version != STANDIN and workloads <= set(registry.names("standin")):
        if version is not None:
            ruleset(version)
        note = f"only stand-in workloads; scored by {NEWEST}'s rules over the stand-ins"
        return _standins(name, workloads), note if version is not None else ""
    notes = []
    if version is None:
        version, count = version_of((key[1], facts) for key, facts in logs.runs.items())
        if version is None:
            version = NEWEST
            notes.append(f"no --version given, and the logs name no budget; taken as {version}")
        else:
            share = f"{count} of {len(logs.runs)} trials"
            notes.append(f"version {version}, by the budgets and periods of {share}")
    if version == STANDIN:
        return _standins(name, workloads), "; ".join(notes)
    if name is None:
        name, note = _tuning(logs)
        notes += [note] if note else []
    return ruleset(version, name or "external"), "; ".join(notes)


def _standins(name: str | None, run: Collection[str]) -> Ruleset:
    """The stand-ins' rules, over those of them that were run."""
    rules = ruleset(STANDIN, name or "external")
    bases = tuple(workload for workload in rules.base_workloads if workload in run)
    return dataclasses.replace(rules, base_workloads=bases)


def _tuning(logs: Logs) -> tuple[str, str]:
    """The name of the ruleset by what the logs say or look like, and a note."""
    told = [facts.tuning for facts in logs.runs.values() if facts.tuning]
    if told:
        name = max(sorted(set(told)), key=told.count)
        is_usual = name == "external" and len(set(told)) == 1
        note = f"ruleset {name}, by the flags of {told.count(name)} of {len(logs.runs)} trials"
        return name, "" if is_usual else note
    trials = logs.frame.drop_duplicates(TRIAL_KEYS)
    if trials.groupby(TRIAL_KEYS[:-1]).size().max() > 1:
        return "external", ""
    assumed = "self_tuning" if not trials["hyperparameters"].any() else "external"
    looks = "no" if assumed == "self_tuning" else "logged"
    return assumed, (
        f"no --ruleset given; one trial per study and {looks} hyperparameters: taken as {assumed}"
    )
