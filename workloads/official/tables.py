"""Writes the tables of this folder's READMEs and of docs/datasets.md from the facts in here.

    python -m workloads.official.tables

What stands between `<!--table: name-->` and `<!--/-->` is written anew; a test keeps it in step.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import cli, documents, files
from common.documents import number, table
from workloads import registry
from workloads.official import budgets, data_tables, datasets, models, search_spaces, targets
from workloads.official.facts import NEWEST, VERSIONS, OfficialFacts
from workloads.rulesets import ruleset

HERE = Path(__file__).parent
DOCUMENTS = (
    HERE / "README.md",
    search_spaces.ROOT / "README.md",
    HERE.parents[1] / "docs/datasets.md",
)


def main(argv: Sequence[str]) -> None:
    """Writes all documents."""
    del argv
    for document in DOCUMENTS:
        files.write_text(document, filled(document.read_text("utf-8")))
        print(f"wrote {document}")


def filled(text: str) -> str:
    """`text` with its tables written anew; UserError for a table of an unknown name."""
    return documents.filled(text, TABLES)


def targets_table() -> str:
    """Base workloads: data, model, metric and targets, which both versions share."""
    return table(
        {
            "workload": row.name,
            "data": row.dataset,
            "on disk": data_tables.size(row.data.size_gib),
            "model": row.model.title,
            "parameters": _millions(row.model.parameters),
            "metric": f"{row.metric} {'↑' if row.direction == 'max' else '↓'}",
            "target": number(row.validation_target, "g"),
            "test target": number(row.test_target, "g"),
            "batch": row.model.batch_size,
            "dropout": number(row.model.dropout_rate, "g"),
            "label smoothing": "heeded" if row.model.smooths_labels else "ignored",
        }
        for row in _bases()
    )


def budgets_table() -> str:
    """Base workloads: what each version grants."""
    rows = []
    for base in _bases():
        cells: dict[str, str] = {"workload": base.name}
        for version in VERSIONS:
            steps = external = self_tuning = "–"
            if base.name in registry.names("official", version):
                row = registry.official(base.name, version)
                steps, external = f"{row.step_hint:,}", _hours(row.max_runtime_seconds)
                self_tuning = _hours(row.self_tuning_max_runtime_seconds)
            cells[f"{version} steps"] = steps
            cells[f"{version} external"] = external
            cells[f"{version} self-tuning"] = self_tuning
        rows.append(cells | {"evaluated every": f"{base.eval_period_seconds:,} s"})
    return table(rows)


def variants_table() -> str:
    """Variants: what differs from their base."""
    held_out = ruleset("v0.5").held_out
    rows = (registry.official(name) for name in registry.names("official"))
    return table(
        {
            "variant": row.name,
            "target": number(row.validation_target, "g"),
            "test target": number(row.test_target, "g"),
            "parameters": _millions(row.model.parameters),
            "batch": row.model.batch_size,
            "scored": "v0.5" if row.name in held_out.get(row.base, ()) else "–",
        }
        for row in rows
        if row.base
    )


def notes_list() -> str:
    """The sources, and where one workload has others or they contradict each other."""
    general = (targets.SOURCE, *budgets.SOURCES.values(), datasets.SOURCE, models.SOURCE)
    rows = (registry.official(name) for name in registry.names("official"))
    single = [
        f"`{row.name}`: {source}" for row in rows for source in row.sources if source not in general
    ]
    return "\n".join(f"- {line}" for line in (*general, *single))


def spaces_table() -> str:
    """The ranges that all algorithms share, per workload."""
    rows = []
    for name in search_spaces.workloads():
        ranges = search_spaces.load(name, "nadamw")
        if isinstance(ranges, list):
            rows.append({"workload": name, "learning_rate": f"{len(ranges)} points"})
        else:
            rows.append({"workload": name} | {key: _range(spec) for key, spec in ranges.items()})
    return table(rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "targets": targets_table,
    "budgets": budgets_table,
    "variants": variants_table,
    "notes": notes_list,
    "spaces": spaces_table,
    **data_tables.TABLES,
}


def _bases() -> list[OfficialFacts]:
    rows = (registry.official(name) for name in registry.names("official", NEWEST))
    return [row for row in rows if not row.base]


def _range(spec: Mapping[str, Any]) -> str:
    if "feasible_points" in spec:
        return ", ".join(f"{value:g}" for value in spec["feasible_points"])
    scaling = "" if spec["scaling"] == "log" else " linear"
    return f"{spec['min']:g} … {spec['max']:g}{scaling}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.3g} M"


def _hours(seconds: float) -> str:
    return f"{seconds:,g} s" if seconds < 3600 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    cli.run(main)
