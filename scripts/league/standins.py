"""Writes what the stand-ins are into docs/standins.md: data, sizes, seconds, targets.

    python -m scripts.league.standins

Loads every stand-in's data and model, which takes seconds.
"""

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence

from common import cli, documents, files
from scripts.local.environment import ROOT
from scripts.local.metrics_log import read_csv
from scripts.local.search_table import COLUMNS
from workloads import prng, registry
from workloads.standin.facts import TARGETS_FILE, read_targets

DOCUMENT = ROOT / "docs" / "standins.md"
REPEATS = ROOT / "results" / "targets" / "repeats.csv"


def main(argv: Sequence[str]) -> None:
    """Fills in the document."""
    del argv
    files.write_text(DOCUMENT, documents.filled(DOCUMENT.read_text("utf-8"), TABLES))
    print(f"wrote {DOCUMENT}")


@functools.cache
def _rows_and_parameters(name: str) -> tuple[str, str]:
    workload = registry.load(name)
    model, _ = workload.init_model_fn(prng.key(0))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows = (getattr(workload, f"num_{split}_examples") for split in ("train", "validation", "test"))
    return " / ".join(f"{count:,}" for count in rows), f"{parameters:,}"


def sizes() -> str:
    """What each stand-in stands in for, its data, their rows and its parameters."""
    lines = []
    for name in registry.names("standin"):
        facts = registry.facts(name)
        rows, parameters = _rows_and_parameters(name)
        lines.append(
            {
                "workload": f"`{name}`",
                "stands in for": facts.stands_in_for,
                "data": facts.dataset,
                "rows to train / validate / test": rows,
                "parameters": parameters,
            }
        )
    return documents.table(lines)


def targets() -> str:
    """The targets, who set them, and how far the best of all seeds went."""
    recorded = read_targets(TARGETS_FILE)
    seconds = _seconds()
    lines = []
    for name in registry.names("standin"):
        facts, target = registry.facts(name), recorded.get(name)
        if target is None:
            continue
        best = min(target["best_validation_per_seed"], key=facts.sort_key)
        lines.append(
            {
                "workload": f"`{name}`",
                "metric": facts.metric,
                "validation target": _shown(target["validation_target"]),
                "test target": _shown(target["test_target"]),
                "best of all seeds": _shown(best),
                "set by": target["algorithm"],
                "in steps": f"{target['steps']}",
                "step budget": f"{facts.step_hint}",
                "seconds per run": f"{seconds[name]:.0f}" if name in seconds else documents.UNKNOWN,
            }
        )
    return documents.table(lines)


def _seconds() -> Mapping[str, float]:
    spent: dict[str, list[float]] = {}
    for row in read_csv(REPEATS, COLUMNS):
        spent.setdefault(row["workload"], []).append(float(row["seconds"]))
    return {name: statistics.median(values) for name, values in spent.items()}


def _shown(value: float) -> str:
    """Four significant digits.

    >>> _shown(0.93512), _shown(7.0853)
    ('0.9351', '7.085')
    """
    return f"{value:.4g}"


TABLES: Mapping[str, Callable[[], str]] = {"sizes": sizes, "targets": targets}

if __name__ == "__main__":
    cli.run(main)
