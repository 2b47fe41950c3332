"""The tables of docs/datasets.md, from what is downloaded and what files there are afterwards."""

from collections.abc import Callable, Mapping

from common.documents import table
from workloads.official.datasets import DATASETS
from workloads.official.downloads import SETUPS, SetUp
from workloads.official.layouts import (
    LAYOUTS,
    DayFiles,
    Images,
    Layout,
    OneFile,
    Part,
    Records,
    Utterances,
    Volumes,
)


def downloads_table() -> str:
    """Per data set: sizes, and what the set-up script needs."""
    return table(
        {
            "workload": ", ".join(names),
            "data set": DATASETS[names[0]].title,
            "download": size(setup.download_gib),
            "on the way, `--data_dir`": size(setup.data_gib),
            "`--temp_dir`": size(setup.temp_gib) if setup.temp_gib else "–",
            "at the end": size(DATASETS[names[0]].size_gib),
            "files": _count(DATASETS[names[0]].files),
            "programs": ", ".join(setup.tools) or "–",
        }
        for setup, names in _setups().items()
    )


def licences_table() -> str:
    """Per data set: owner, terms, and what a person must do."""
    return table(
        {
            "data set": DATASETS[names[0]].title,
            "from": setup.owner,
            "licence": setup.licence,
            "a person must first": setup.accept or "–",
            "flags to bring": "<br>".join(f"`--{url.flag}`" for url in setup.urls) or "–",
        }
        for setup, names in _setups().items()
    )


def leftovers_table() -> str:
    """Per data set: what the set-up asks, and what a person may delete afterwards."""
    return table(
        {
            "data set": DATASETS[names[0]].title,
            "it asks": setup.prompts or "nothing",
            "may be deleted afterwards": setup.leftovers,
        }
        for setup, names in _setups().items()
    )


def layouts_table() -> str:
    """Per workload and framework: the data directory, and what the check wants there."""
    rows: list[tuple[str, Layout, list[str]]] = []
    for framework, layouts in LAYOUTS.items():
        for name, layout in layouts.items():
            shared = all(other[name] is layout for other in LAYOUTS.values())
            known = next((names for _, same, names in rows if same is layout), None)
            if known is None:
                rows.append(("" if shared else f" ({framework})", layout, [name]))
            elif name not in known:
                known.append(name)
    return table(
        {
            "workload": ", ".join(names) + form,
            "`--data_dir`": f"`ROOT/{layout.folder}`"
            + ("" if layout.otherwise is None else ", or `ROOT` if the folder is there"),
            "what is there": "<br>".join(described(part) for part in layout.parts),
        }
        for form, layout, names in rows
    )


def described(part: Part) -> str:
    """One part of a data set, in words."""
    match part:
        case OneFile(path, least_bytes):
            return f"`{path}`" + (f", {least_bytes:,} bytes or more" if least_bytes > 1 else "")
        case Records(folder, examples):
            counts = ", ".join(f"{count:,} {name}" for name, count in examples.items())
            return f"`{folder}`: {counts} examples, all record files of `dataset_info.json`"
        case Images(folder, classes, files):
            return f"`{folder}`: {files:,} images in {classes:,} class folders"
        case Volumes(folder, files):
            return f"`{folder}`: {files:,} files `*.h5`, each as long as it says it is"
        case Utterances(subsets, utterances):
            named = (f"`{subset}`" for names in subsets.values() for subset in names)
            counts = ", ".join(f"{count:,} {name}" for name, count in utterances.items())
            return f"{', '.join(named)}: a `.csv` and a folder each; {counts} utterances"
        case DayFiles(rows_per_day, rows_per_file):
            count = sum(len(part.names(day)) for day in range(len(rows_per_day)))
            return f"`day_0_00` …: {count:,} files, cut from each day after {rows_per_file:,} rows"


def size(gib: float | None) -> str:
    """A size for people; a dash where no source gives one."""
    if gib is None:
        return "–"
    return f"{gib:,.4g} GiB" if gib >= 1 else f"{gib * 1_024:.3g} MiB"


def _setups() -> Mapping[SetUp, list[str]]:
    """Each set-up with PyTorch's form of the data, and the workloads that it serves."""
    rows: dict[SetUp, list[str]] = {}
    for name, setup in SETUPS["pytorch"].items():
        rows.setdefault(setup, []).append(name)
    return dict(sorted(rows.items(), key=lambda row: list(DATASETS).index(row[1][0])))


def _count(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


TABLES: Mapping[str, Callable[[], str]] = {
    "downloads": downloads_table,
    "licences": licences_table,
    "leftovers": leftovers_table,
    "layouts": layouts_table,
}
