"""The stand-in workloads' facts: sizes chosen here, targets as `scripts.tune` found them.

Sizes are in `facts.json`. Targets live in `targets.json`, which only `scripts.tune` writes;
importing does not read it.
"""

import dataclasses
import functools
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common import files
from common.cli import UserError
from workloads.facts import WorkloadFacts
from workloads.rows import row

TARGETS_FILE = Path(__file__).with_name("targets.json")

_SIZES: Mapping[str, WorkloadFacts] = {
    name: row(WorkloadFacts, {"name": name, "suite": "standin", **values}, f"facts.json: {name}")
    for name, values in files.read_json(Path(__file__).with_suffix(".json")).items()
}

# Workloads whose data come with the Python that runs them.
_DATA_OF_PYTHON = frozenset({"stdlib_lm"})


def read_targets(path: Path) -> dict[str, dict[str, Any]]:
    """Targets and the settings they were found with, by workload; empty if there is no file.

    UserError if the file is damaged.
    """
    content = files.read_json(path) if path.exists() else {}
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it is not an object of workloads")
    for name, targets in content.items():
        if not isinstance(targets, dict):
            raise UserError(f"{path} is damaged: {name} is not an object")
        for key in ("validation_target", "test_target"):
            if not isinstance(targets.get(key), float | int | None):
                raise UserError(f"{path} is damaged: {key} of {name} is not a number")
    return content


@functools.cache
def _rows(targets_file: Path) -> dict[str, WorkloadFacts]:
    targets = read_targets(targets_file)

    def with_targets(facts: WorkloadFacts) -> WorkloadFacts:
        target = targets.get(facts.name, {})
        return dataclasses.replace(
            facts,
            validation_target=target.get("validation_target"),
            test_target=target.get("test_target"),
        )

    return {name: with_targets(facts) for name, facts in _SIZES.items()}


class _Standins(Mapping[str, WorkloadFacts]):
    """Rows by name. Looking one up reads the targets; UserError if their file is damaged."""

    def __getitem__(self, name: str) -> WorkloadFacts:
        return _rows(TARGETS_FILE)[name]

    def __contains__(self, name: object) -> bool:
        return name in _SIZES  # not by look-up, as in Mapping: that would read the targets

    def __iter__(self) -> Iterator[str]:
        return iter(_SIZES)

    def __len__(self) -> int:
        return len(_SIZES)


STANDINS = _Standins()


def caveat(name: str) -> str | None:
    """Why a stand-in's targets are inexact on this machine; None if no reason is known."""
    if name not in _DATA_OF_PYTHON:
        return None
    recorded = read_targets(TARGETS_FILE).get(name, {}).get("python_version")
    version = platform.python_version()
    if recorded in (None, version):
        return None
    return (
        f"{name} is made of the text of Python's own library: its targets were set on Python "
        f"{recorded}, this is {version}, so steps to target do not compare with those measured "
        "there"
    )
