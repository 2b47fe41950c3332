"""The official layout of logs: which folders hold a trial, and what their names say of it."""

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

from analysis.problem import Problem
from analysis.trial_files import EVALUATIONS_FILE
from common.cli import UserError
from workloads import registry
from workloads.facts import WorkloadFacts

LAYOUT = f"SUBMISSION/study_K/WORKLOAD_FRAMEWORK/trial_I/{EVALUATIONS_FILE}"

_STUDY = re.compile(r"study_(\d{1,9})")
_WORKLOAD = re.compile(r"(.+)_(pytorch|jax)")
_TRIAL = re.compile(r"trial_(\d{1,9})")


@dataclasses.dataclass(frozen=True)
class TrialFolder:
    """One trial's folder and what its path says of it."""

    submission: str
    facts: WorkloadFacts
    framework: str
    study: int
    trial: int
    folder: Path

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """Submission, workload, framework, study and trial, by which trials are sorted."""
        return (self.submission, self.facts.name, self.framework, self.study, self.trial)


def find_trials(
    directory: Path, version: str | None, ignore: Path | None, problems: list[Problem]
) -> list[TrialFolder]:
    """Every trial's folder under `directory`, sorted by `TrialFolder.key`.

    Args:
      directory: the folder that holds one folder per submission.
      version: of the benchmark, as `workloads.registry.facts` takes it.
      ignore: a folder inside that holds no logs.
      problems: gets what is no part of the layout.

    Raises:
      UserError: `directory` is one submission's folder, or something in it cannot be listed.
    """
    try:
        if any(_STUDY.fullmatch(entry.name) for entry in directory.iterdir() if entry.is_dir()):
            raise UserError(
                f"{directory} holds study_K folders, so it is one submission; give the folder "
                f"that holds it (expected {LAYOUT})"
            )
        found = list(_walk(directory, version, ignore, problems))
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    trials: dict[tuple[str, str, str, int, int], TrialFolder] = {}
    for trial in found:
        first = trials.setdefault(trial.key, trial)
        if first is not trial:
            problems.append(Problem(trial.folder, f"same trial as {first.folder}; left out"))
    return [trials[key] for key in sorted(trials)]


def _walk(
    directory: Path, version: str | None, ignore: Path | None, problems: list[Problem]
) -> Iterator[TrialFolder]:
    known = {name: registry.facts(name, version) for name in registry.names(version=version)}
    for entry in sorted(directory.iterdir()):
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        if ignore is not None and entry.resolve() in (ignore.resolve(), *ignore.resolve().parents):
            continue
        if not _is_readable(entry, problems):
            continue
        for study_folder, study in _folders(entry, _STUDY, "study_K", problems):
            for folder, name in _folders(study_folder, _WORKLOAD, "WORKLOAD_FRAMEWORK", problems):
                if name[1] not in known:
                    problems.append(Problem(folder, f"unknown workload {name[1]!r}; left out"))
                    continue
                for trial_folder, trial in _folders(folder, _TRIAL, "trial_I", problems):
                    numbers = int(study[1]), int(trial[1])
                    yield TrialFolder(entry.name, known[name[1]], name[2], *numbers, trial_folder)


def _folders(
    parent: Path, pattern: re.Pattern[str], what: str, problems: list[Problem]
) -> Iterator[tuple[Path, re.Match[str]]]:
    """Subfolders whose names match, in order of name; others are reported."""
    strays = []
    found = False
    for folder in sorted(parent.iterdir()):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        match = pattern.fullmatch(folder.name)
        if match is None:
            strays.append(Problem(folder, f"stray folder, expected {what}; left out"))
            continue
        found = True
        if _is_readable(folder, problems):
            yield folder, match
    problems.extend(strays if found else [Problem(parent, f"holds no {what} folder; left out")])


def _is_readable(folder: Path, problems: list[Problem]) -> bool:
    """Whether a folder can be listed; it is reported if not."""
    if os.access(folder, os.R_OK | os.X_OK):
        return True
    problems.append(Problem(folder, "may not be read; left out"))
    return False
