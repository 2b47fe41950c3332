"""Writes the tables of this folder's READMEs and of docs/datasets.md from the facts.

    python -m workloads.official.tables

A test fails where a document is not up to date.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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


def _targets() -> str:
    """Base workloads: data, model, metric and targets, which all versions share."""
    return table(
        {
            "workload": row.name,
            "data": row.dataset,
            "on disk": _size(row.data.size_gib),
            "model": row.model.title,
            "parameters": _millions(row.model.parameters),
            "metric": f"{row.metric} {'↑' if row.direction == 'max' else '↓'}",
            "target": number(row.validation_target, "g"),
            "test target": number(row.test_target, "g"),
            "batch": row.model.batch_size,
            "dropout": number(row.model.dropout_rate, "g"),
            "label smoothing": "heeded" if row.model.smooths_labels else "ignored",
        }
        for row in _rows()
        if not row.base
    )


def _budgets() -> str:
    """Base workloads: what each version grants."""
    rows = []
    for base in (row for row in _rows() if not row.base):
        cells: dict[str, str] = {"workload": base.name}
        for version in VERSIONS:
            steps = external = self_tuning = "–"
            if base.name in registry.names("official", version):
                row = registry.official(base.name, version)
                steps, external = f"{row.step_hint:,}", _hours(row.max_runtime_seconds)
                self_tuning = _hours(row.self_tuning_max_runtime_seconds)
            cells |= {
                f"{version} steps": steps,
                f"{version} external": external,
                f"{version} self-tuning": self_tuning,
            }
        rows.append(cells | {"evaluated every": f"{base.eval_period_seconds:,} s"})
    return table(rows)


def _variants() -> str:
    """Variants: what differs from their base."""
    held_out = ruleset("v0.5").held_out
    return table(
        {
            "variant": row.name,
            "target": number(row.validation_target, "g"),
            "test target": number(row.test_target, "g"),
            "parameters": _millions(row.model.parameters),
            "batch": row.model.batch_size,
            "scored": "v0.5" if row.name in held_out.get(row.base, ()) else "–",
        }
        for row in _rows()
        if row.base
    )


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


def _spaces() -> str:
    """The ranges that all algorithms share, per workload."""
    rows = []
    for name in search_spaces.workloads():
        ranges = search_spaces.load(name, "nadamw")
        if isinstance(ranges, list):
            rows.append({"workload": name, "learning_rate": f"{len(ranges)} points"})
        else:
            rows.append({"workload": name} | {key: _range(spec) for key, spec in ranges.items()})
    return table(rows)


def _downloads() -> str:
    """Per data set: sizes, and what the set-up script needs."""
    return table(
        {
            "workload": names,
            "data set": data.title,
            "download": _size(setup.download_gib),
            "on the way, `--data_dir`": _size(setup.data_gib),
            "`--temp_dir`": _size(setup.temp_gib or None),
            "at the end": _size(data.size_gib),
            "files": "–" if data.files is None else f"{data.files:,}",
            "programs": ", ".join(setup.tools) or "–",
        }
        for names, data, setup in _setups()
    )


def _licences() -> str:
    """Per data set: owner, terms, and what a person must do."""
    return table(
        {
            "data set": data.title,
            "from": setup.owner,
            "licence": setup.licence,
            "a person must first": setup.accept or "–",
            "flags to bring": "<br>".join(f"`--{flag}`" for flag in setup.urls) or "–",
        }
        for _, data, setup in _setups()
    )


def _leftovers() -> str:
    """Per data set: what the set-up asks, and what a person may delete afterwards."""
    return table(
        {
            "data set": data.title,
            "it asks": setup.prompts or "nothing",
            "may be deleted afterwards": setup.leftovers,
        }
        for _, data, setup in _setups()
    )


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
        names = [row.name for row in _rows() if row.data is data and not row.base]
        if data.setups:
            yield ", ".join(names), data, data.setups["pytorch"]


def _rows() -> list[OfficialFacts]:
    return [registry.official(name) for name in registry.names("official", NEWEST)]


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


TABLES: Mapping[str, Callable[[], str]] = {
    "targets": _targets,
    "budgets": _budgets,
    "variants": _variants,
    "notes": _notes,
    "spaces": _spaces,
    "downloads": _downloads,
    "licences": _licences,
    "leftovers": _leftovers,
    "trees": _trees,
}

if __name__ == "__main__":
    cli.run(main)
