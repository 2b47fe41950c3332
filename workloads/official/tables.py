"""Writes the tables of this folder's READMEs and of docs/datasets.md from the facts.

    python -m workloads.official.tables

A test fails where a document is not up to date.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import cli, documents, files
from common.documents import number, table
from workloads import registry
from workloads.official import search_spaces
from workloads.official.datasets import DATASETS, DataSet, SetUp, Tree
from workloads.official.facts import NEWEST, SOURCES, VERSIONS, OfficialFacts
from workloads.rulesets import ruleset

_FOLDER = Path(__file__).parent
# The hyperparameters of the search spaces, in two tables.
_RATES = ("learning_rate", "one_minus_beta1", "one_minus_beta2", "weight_decay")
_SCHEDULES = ("warmup_factor", "step_hint_factor", "label_smoothing", "dropout_rate")
DOCUMENTS = (
    _FOLDER / "README.md",
    search_spaces.ROOT / "README.md",
    _FOLDER.parents[1] / "docs/datasets.md",
)


def main(argv: Sequence[str]) -> None:
    """Writes all documents."""
    del argv
    for document in DOCUMENTS:
        files.write_text(document, documents.filled(document.read_text("utf-8"), TABLES))
        print(f"wrote {document}")


def _budgets(version: str) -> str:
    """Budgets of the base workloads of a version."""
    rows = [registry.official(name, version) for name in registry.names("official", version)]
    return _cells((row for row in rows if not row.base), _BUDGETS)


def _notes() -> str:
    """The sources, and where one workload has others or they contradict each other."""
    columns = zip(*(SOURCES[version] for version in VERSIONS), strict=True)
    general = dict.fromkeys(source for column in columns for source in column)
    single = [
        f"`{row.name}`: {source}"
        for row in _rows()
        for source in row.sources
        if source not in general
    ]
    return "\n".join(f"- {line}" for line in (*general, *single))


def _spaces(columns: Sequence[str]) -> str:
    """The ranges of some hyperparameters, which all algorithms share, per workload."""
    rows = []
    for name in search_spaces.workloads():
        ranges = search_spaces.load(name, "nadamw")
        if isinstance(ranges, list):
            cells = dict.fromkeys(columns, f"{len(ranges)} points")
        else:
            cells = {key: _range(ranges[key]) for key in columns}
        rows.append({"workload": name} | cells)
    return table(rows)


def _trees() -> str:
    """Per data set and framework: the data directory, and the files that the check counts."""
    rows = []
    for names, data, _ in _setups():
        differ = data.trees["pytorch"] != data.trees["jax"]
        for framework in data.trees if differ else ("pytorch",):
            tree = data.trees[framework]
            rows.append(
                {
                    "workload": names + (f" ({framework})" if differ else ""),
                    "`--data_dir`": f"`ROOT/{tree.folder}`"
                    + ("" if tree.otherwise is None else ", or `ROOT` if all files are there"),
                    "files": "<br>".join(_counted(tree)),
                    "more than": _size(tree.least_gib or None),
                }
            )
    return table(rows)


def _counted(tree: Tree) -> Iterator[str]:
    for pattern, count in tree.files.items():
        least, most = count if isinstance(count, list) else (count, count)
        yield f"`{pattern}`: {least:,}" + (f" to {most:,}" if most > least else "")


def _setups() -> Iterator[tuple[str, DataSet, SetUp]]:
    """Data sets with the names of their base workloads, set up for PyTorch."""
    for data in DATASETS.values():
        names = [row.name for row in _bases() if row.data is data]
        if data.setups:
            yield ", ".join(names), data, data.setups["pytorch"]


def _rows() -> list[OfficialFacts]:
    return [registry.official(name) for name in registry.names("official", NEWEST)]


def _bases() -> list[OfficialFacts]:
    return [row for row in _rows() if not row.base]


def _range(spec: Mapping[str, Any]) -> str:
    if "feasible_points" in spec:
        return ", ".join(f"{value:g}" for value in spec["feasible_points"])
    scaling = "" if spec["scaling"] == "log" else " linear"
    return f"{spec['min']:g} … {spec['max']:g}{scaling}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.3g} M"


def _hours(seconds: float) -> str:
    return f"{seconds:,g} s" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _size(gib: float | None) -> str:
    if gib is None:
        return "–"
    return f"{gib:,.4g} GiB" if gib >= 1 else f"{gib * 1_024:.3g} MiB"


# What all versions share of base workloads: the goal, and what is trained on what.
_TARGETS: Mapping[str, Callable[[OfficialFacts], Any]] = {
    "workload": lambda row: row.name,
    "metric": lambda row: f"{row.metric} {'↑' if row.direction == 'max' else '↓'}",
    "target": lambda row: number(row.validation_target, "g"),
    "test target": lambda row: number(row.test_target, "g"),
    "batch": lambda row: row.model.batch_size,
}
_MODELS: Mapping[str, Callable[[OfficialFacts], Any]] = {
    "workload": lambda row: row.name,
    "data": lambda row: row.dataset,
    "on disk": lambda row: _size(row.data.size_gib),
    "model": lambda row: row.model.title,
    "parameters": lambda row: _millions(row.model.parameters),
    "dropout": lambda row: number(row.model.dropout_rate, "g"),
    "label smoothing": lambda row: "heeded" if row.model.smooths_labels else "ignored",
}
# Steps of the hint, and what a trial may use.
_BUDGETS: Mapping[str, Callable[[OfficialFacts], Any]] = {
    "workload": lambda row: row.name,
    "steps": lambda row: f"{row.step_hint:,}",
    "external": lambda row: _hours(row.max_runtime_seconds),
    "self-tuning": lambda row: _hours(row.self_tuning_max_runtime_seconds),
    "evaluated every": lambda row: f"{row.eval_period_seconds:,} s",
}
# What differs in a variant from its base.
_VARIANTS: Mapping[str, Callable[[OfficialFacts], Any]] = {
    "variant": lambda row: row.name,
    "target": lambda row: number(row.validation_target, "g"),
    "test target": lambda row: number(row.test_target, "g"),
    "parameters": lambda row: _millions(row.model.parameters),
    "batch": lambda row: row.model.batch_size,
    "scored": lambda row: "v0.5" if row.name in ruleset("v0.5").held_out.get(row.base, ()) else "–",
}
_Data = tuple[str, DataSet, SetUp]
# Sizes, and what the set-up script needs.
_DOWNLOADS: Mapping[str, Callable[[_Data], Any]] = {
    "data set": lambda row: row[1].title,
    "download": lambda row: _size(row[2].download_gib),
    "on the way, `--data_dir`": lambda row: _size(row[2].data_gib),
    "`--temp_dir`": lambda row: _size(row[2].temp_gib or None),
    "at the end": lambda row: _size(row[1].size_gib),
    "files": lambda row: "–" if row[1].files is None else f"{row[1].files:,}",
    "programs": lambda row: ", ".join(row[2].tools) or "–",
}
# Owner, terms, and what a person must do.
_LICENCES: Mapping[str, Callable[[_Data], Any]] = {
    "data set": lambda row: row[1].title,
    "from": lambda row: row[2].owner,
    "licence": lambda row: row[2].licence,
    "a person must first": lambda row: row[2].accept or "–",
    "flags to bring": lambda row: "<br>".join(f"`--{flag}`" for flag in row[2].urls) or "–",
}
# What the set-up asks, and what a person may delete afterwards.
_LEFTOVERS: Mapping[str, Callable[[_Data], Any]] = {
    "data set": lambda row: row[1].title,
    "it asks": lambda row: row[2].prompts or "nothing",
    "may be deleted afterwards": lambda row: row[2].leftovers,
}


def _cells(rows: Iterable[Any], columns: Mapping[str, Callable[[Any], Any]]) -> str:
    return table({name: cell(row) for name, cell in columns.items()} for row in rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "targets": lambda: _cells(_bases(), _TARGETS),
    "models": lambda: _cells(_bases(), _MODELS),
    **{
        f"budgets_{version.replace('.', '_')}": functools.partial(_budgets, version)
        for version in VERSIONS
    },
    "variants": lambda: _cells((row for row in _rows() if row.base), _VARIANTS),
    "notes": _notes,
    "rates": lambda: _spaces(_RATES),
    "schedules": lambda: _spaces(_SCHEDULES),
    "downloads": lambda: _cells(_setups(), _DOWNLOADS),
    "licences": lambda: _cells(_setups(), _LICENCES),
    "leftovers": lambda: _cells(_setups(), _LEFTOVERS),
    "trees": _trees,
}

if __name__ == "__main__":
    cli.run(main)
