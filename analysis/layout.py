"""Finds trials in a folder of logs: the official layout, and those that people make of it."""

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

from analysis.evaluations import Problem
from common.cli import UserError
from scripts.local.metrics_log import EVALUATIONS
from workloads import registry
from workloads.facts import WorkloadFacts

LAYOUT = f"SUBMISSION/study_K/WORKLOAD_FRAMEWORK/trial_I/{EVALUATIONS}"

# Submission, workload, framework, study and trial.
TrialKey = tuple[str, str, str, int, int]

# So many levels below the folder that is given, logs are looked for.
_DEEPEST = 3
# What the runner's --append_timestamp adds to the name of an experiment.
_STAMP = r"-\d{4}(?:-\d{2}){5}"
# What a report is called; a folder that has one holds no logs.
REPORT = "report.md"
_SUBMISSION = re.compile(rf"(.+?)({_STAMP})?")
_STUDY = re.compile(rf"study_(\d{{1,9}})(?:{_STAMP})?")
_WORKLOAD = re.compile(r"(.+)_(pytorch|jax)")
_TRIAL = re.compile(r"trial_(\d{1,9})")


@dataclasses.dataclass(frozen=True)
class TrialFolder:
    """One trial's folder and what its path says of it.

    Attributes:
      origin: the name of the submission's folder, which may have a timestamp.
    """

    origin: str
    submission: str
    facts: WorkloadFacts
    framework: str
    study: int
    trial: int
    folder: Path

    @property
    def key(self) -> TrialKey:
        """By which trials are sorted."""
        return (self.submission, self.facts.name, self.framework, self.study, self.trial)


def find_trials(
    directory: Path, version: str | None, ignore: Path | None, problems: list[Problem]
) -> list[TrialFolder]:
    """Every trial's folder, sorted by `TrialFolder.key`.

    Folders of a submission whose names differ by the runner's timestamps are one submission, as in
    the official scoring code: where they have the same study and trial, the later one is a further
    trial of that study. Workloads without a study are study 0. If the submissions are one level
    or more further down in a single folder, that is read.

    Args:
      directory: the folder of logs.
      version: of the benchmark, as `workloads.registry.facts` takes it.
      ignore: a folder inside it that holds no logs.
      problems: takes what was left out, renumbered or assumed.

    Raises:
      UserError: a folder cannot be listed, is a submission itself, or holds several folders of
        submissions.
    """
    try:
        subfolders = [entry for entry in sorted(directory.iterdir()) if entry.is_dir()]
        if any(_STUDY.fullmatch(entry.name) for entry in subfolders):
            raise UserError(
                f"{directory} holds study_K folders, so it is one submission; give the folder "
                f"that holds it (expected {LAYOUT})"
            )
        reported: list[Problem] = []
        folders = list(_walk(directory, version, ignore, reported))
        if not folders:
            deeper = list(_roots(directory, _DEEPEST))
            if len(deeper) > 1:
                listed = ", ".join(f"--logs={entry}" for entry in deeper[:4])
                raise UserError(f"{directory} holds several folders of logs; give one: {listed}")
            if deeper:
                inner = deeper[0].relative_to(directory)
                problems.append(Problem(directory, f"holds no logs; those in {inner} read"))
                return find_trials(deeper[0], version, ignore, problems)
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    problems.extend(reported)
    return _without_repeats(folders, problems)


def _without_repeats(folders: list[TrialFolder], problems: list[Problem]) -> list[TrialFolder]:
    trials: dict[TrialKey, TrialFolder] = {}
    for trial in folders:
        first = trials.setdefault(trial.key, trial)
        if first is trial:
            continue
        if trial.origin == first.origin:
            problems.append(Problem(trial.folder, f"same trial as {first.folder}; left out"))
            continue
        study = [other.trial for other in trials.values() if other.key[:-1] == trial.key[:-1]]
        further = dataclasses.replace(trial, trial=max(study) + 1)
        trials[further.key] = further
        problems.append(
            Problem(
                trial.folder,
                f"trial {trial.trial} is also in {first.origin}; counted as trial "
                f"{further.trial} of study {trial.study}",
            )
        )
    return [trials[key] for key in sorted(trials)]


def _roots(directory: Path, depth: int) -> Iterator[Path]:
    """Folders below this one that hold submissions, as far as they can be read."""
    try:
        inner = [entry for entry in sorted(directory.iterdir()) if entry.is_dir()]
    except OSError:
        return
    for entry in inner:
        if entry.name.startswith("."):
            continue
        if any(entry.glob("*/study_*")) or any(entry.glob("*/*_*/trial_*")):
            yield entry
        elif depth > 1:
            yield from _roots(entry, depth - 1)


def _walk(
    directory: Path, version: str | None, ignore: Path | None, problems: list[Problem]
) -> Iterator[TrialFolder]:
    for entry in sorted(directory.iterdir()):
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        if ignore is not None and entry.resolve() in (ignore.resolve(), *ignore.resolve().parents):
            continue
        if not _is_readable(entry, problems):
            continue
        if not entry.name.isprintable():
            problems.append(Problem(entry, "has a name that cannot be written; left out"))
            continue
        match = _SUBMISSION.fullmatch(entry.name)
        assert match is not None
        inner = [folder.name for folder in entry.iterdir() if folder.is_dir()]
        has_studies = any(_STUDY.fullmatch(name) for name in inner)
        # Written beside the logs by an earlier call, it is none of them.
        if not has_studies and (entry / REPORT).is_file():
            continue
        if not has_studies and any(_WORKLOAD.fullmatch(name) for name in inner):
            problems.append(Problem(entry, "holds no study_K folder; taken as study 0"))
            yield from _in_study(entry, match[1], 0, entry, version, problems)
            continue
        for folder, study in _folders(entry, _STUDY, "study_K", problems):
            yield from _in_study(entry, match[1], int(study[1]), folder, version, problems)


def _in_study(
    origin: Path,
    submission: str,
    study: int,
    parent: Path,
    version: str | None,
    problems: list[Problem],
) -> Iterator[TrialFolder]:
    known = registry.names(version=version)
    for folder, name in _folders(parent, _WORKLOAD, "WORKLOAD_FRAMEWORK", problems):
        if name[1] not in known:
            problems.append(Problem(folder, f"unknown workload {name[1]!r}; left out"))
            continue
        facts = registry.facts(name[1], version)
        for trial_folder, trial in _folders(folder, _TRIAL, "trial_I", problems):
            numbers = study, int(trial[1])
            yield TrialFolder(origin.name, submission, facts, name[2], *numbers, trial_folder)


def _folders(
    parent: Path, pattern: re.Pattern[str], kind: str, problems: list[Problem]
) -> Iterator[tuple[Path, re.Match[str]]]:
    """Subfolders whose names match, in order of name; reports the others."""
    strays, matched = [], False
    for folder in sorted(parent.iterdir()):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        match = pattern.fullmatch(folder.name)
        if match is None:
            strays.append(Problem(folder, f"stray folder, expected {kind}; left out"))
            continue
        matched = True
        if _is_readable(folder, problems):
            yield folder, match
    problems.extend(strays if matched else [Problem(parent, f"holds no {kind} folder; left out")])


def _is_readable(folder: Path, problems: list[Problem]) -> bool:
    """Whether a folder can be listed; reports it if not."""
    if os.access(folder, os.R_OK | os.X_OK):
        return True
    problems.append(Problem(folder, "may not be read; left out"))
    return False
