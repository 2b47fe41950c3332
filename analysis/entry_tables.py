"""Writes tables of documents: entries' points, what published runs showed, our study, plans.

python -m analysis.entry_tables
"""

import functools
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import (
    caveats,
    edges,
    entry_evidence,
    entry_plans,
    jax_tables,
    league_tables,
    methods,
    published,
    refresh_costs,
    step_costs,
    step_plans,
)
from analysis.texts import span_text
from common import cli, documents, files
from workloads import registry
from workloads.rulesets import ruleset

ROOT = Path(__file__).parents[1]
ENTRIES = ROOT / "submission" / "entries"
_PAGES = ("heuristics", "jax", "official", "scaling", "troubleshooting", "tuning")
OTHERS = (
    *(ROOT / "docs" / f"{name}.md" for name in _PAGES),
    ROOT / "README.md",
    ROOT / "results" / "league" / "README.md",
)
WINNER = {"v0.5": "shampoo_submission", "v0.6": "shampoo"}


def main(argv: Sequence[str]) -> None:
    """Writes every document anew."""
    del argv
    for document in (*documents_of_entries(), *OTHERS):
        files.write_text(document, filled(document))
        print(f"wrote {document}")


def documents_of_entries() -> list[Path]:
    """The READMEs of the entries that have one."""
    return sorted(ENTRIES.glob("*/README.md"))


def filled(document: Path) -> str:
    """The document with its tables written anew; UserError for a table of an unknown name."""
    tables: Mapping[str, Callable[[], str]] = {
        "points": functools.partial(points_table, document.parent.name),
        "winner": functools.partial(reached_table, WINNER["v0.5"]),
        "baseline": functools.partial(reached_table, "baseline"),
        "fits": fits_table,
        "setting": functools.partial(setting_table, document.parent.name),
        "pace": entry_evidence.pace_table,
        "in-time": entry_evidence.in_time_table,
        "nadamw": entry_evidence.nadamw_table,
        "language-model": entry_evidence.language_model_table,
        "memory": entry_plans.memory_table,
        "embeddings": entry_plans.embedding_table,
        "costs": costs_table,
        "winner-seconds": winner_text,
        **jax_tables.TABLES,
        **methods.TABLES,
        **league_tables.TABLES,
        **caveats.TABLES,
        **edges.TABLES,
        **refresh_costs.TABLES,
        **step_costs.TABLES,
        **step_plans.TABLES,
    }
    return documents.filled(document.read_text("utf-8"), tables)


def points_table(entry: str) -> str:
    """The entry's hyperparameters, one column per point."""
    points = entry_plans.points(entry)
    return documents.table(
        {"hyperparameter": f"`{name}`"}
        | {str(number): _value(point[name]) for number, point in enumerate(points, start=1)}
        for name in points[0]
    )


def setting_table(entry: str) -> str:
    """The hyperparameters of an entry that tunes itself."""
    module = importlib.import_module(f"submission.entries.{entry}.submission")
    return documents.table(
        {"hyperparameter": f"`{name}`", "setting": _value(value)}
        for name, value in vars(module.POINT).items()
    )


def reached_table(submission: str) -> str:
    """Of a published v0.5 submission, by workload and point: studies that met the target."""
    trials = published.read_trials("v0.5")
    trials = trials[trials["submission"] == submission]
    columns = {f"point {point}": trials["trial"] == point for point in sorted(set(trials["trial"]))}
    return entry_evidence.met_table(trials, "v0.5", ruleset("v0.5").workloads, columns)


def winner_text() -> str:
    """What the winner of v0.5 took of the baseline's seconds, where their medians reach targets."""
    rows = published.read_medians()
    rows = rows[(rows["version"] == "v0.5") & (rows["ruleset"] == "external")]
    seconds = rows.pivot(index="workload", columns="submission", values="median_seconds")
    seconds = seconds.loc[list(ruleset("v0.5").base_workloads), [WINNER["v0.5"], "baseline"]]
    shares = [own / other for own, other in seconds.to_numpy() if np.isfinite([own, other]).all()]
    return span_text(round(share, 2) for share in shares)


def fits_table() -> str:
    """The share of the step hint that the winner got through within the time budget, by version."""
    of_version = {version: published.read_trials(version) for version in WINNER}
    rows = []
    for workload in ruleset("v0.6").base_workloads:
        cells = {"workload": workload}
        for version, trials in of_version.items():
            facts = registry.facts(workload, version)
            runs = trials[
                (trials["submission"] == WINNER[version]) & (trials["workload"] == workload)
            ]
            seconds = runs["steady_seconds_per_step"].replace(0, np.nan).median()
            share = facts.max_runtime_seconds / (seconds * facts.step_hint)
            cells[version] = "–" if pd.isna(share) else f"{share:.2f}"
        rows.append(cells)
    return documents.table(rows)


def costs_table() -> str:
    """What a base workload takes: disk, and the hours that the v0.6 winner's trials took."""
    table = published.read_hours()
    external = table[(table["version"] == "v0.6") & (table["ruleset"] == "external")]
    winner = external[external["submission"] == WINNER["v0.6"]].set_index("workload")
    rules, rows = ruleset("v0.6"), []
    total = 0.0
    for workload in rules.base_workloads:
        took = winner.loc[workload]
        runs = rules.studies * rules.trials
        total += runs * took["median_hours"]
        rows.append(
            {
                "workload": workload,
                "budget of a trial": f"{rules.budget_seconds(workload) / 3600:.1f} h",
                "a trial took": f"{took['median_hours']:.1f} h",
                "of which timed": f"{took['median_submission_hours']:.1f} h",
                "longest": f"{took['longest_hours']:.1f} h",
                f"all {runs} trials": f"{runs * took['median_hours']:,.0f} h",
                "data on disk": f"{registry.official(workload).data.size_gib:,.4g} GiB",
            }
        )
    rows.append(
        {key: "" for key in rows[0]} | {"workload": "all", f"all {runs} trials": f"{total:,.0f} h"}
    )
    return documents.table(rows)


def _value(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else json.dumps(value)


if __name__ == "__main__":
    cli.run(main)
