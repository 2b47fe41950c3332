"""Writes measured ablations into docs/heuristics.md.

    python -m scripts.compare.heuristics

A table there, `<!--table: NAME-->`, is the row of that variant of scripts/variants/ablations.json:
what it changes, and for each stand-in that was measured a cell with the ratio of its median steps
to the target to those of its baseline, and in brackets the same for a value near the target
(`scripts.compare`). A variant that has not been run has dashes.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from common import cli, documents, files
from common.cli import UserError
from scripts.compare.plan import SCHEDULES, Variant, read_variants
from scripts.compare.table import COLUMNS, ratio_text
from scripts.local.environment import ROOT
from scripts.local.metrics_log import read_csv
from workloads import registry

DOCUMENT = ROOT / "docs" / "heuristics.md"
VARIANTS = ROOT / "scripts" / "variants" / "ablations.json"
TABLE = ROOT / "results" / "ablations" / "compare.csv"
METHODS = {"ours_soap": "soap", "ours_kl_shampoo": "kl_shampoo"}

Cells = Mapping[str, str]


def main(argv: Sequence[str]) -> int:
    """Fills in the document."""
    del argv
    rows = committed_rows()
    text = filled(DOCUMENT.read_text("utf-8"), read_variants(VARIANTS)[1], rows)
    files.write_text(DOCUMENT, text)
    print(f"wrote {DOCUMENT} from {len(rows)} rows")
    return 0


def committed_rows() -> list[dict[str, str]]:
    """The rows of the repository's own table; none before it has been measured."""
    return read_csv(TABLE, COLUMNS) if TABLE.exists() else []


def workloads(rows: Sequence[Cells]) -> list[str]:
    """The stand-ins that a table has rows of, in the registry's order."""
    measured_ones = {row["workload"] for row in rows}
    return [name for name in registry.names("standin") if name in measured_ones]


def filled(text: str, variants: Sequence[Variant], rows: Sequence[Cells]) -> str:
    """`text` with the measured figures; UserError for a variant that does not exist."""
    lines = {variant.name: functools.partial(measured, variant, rows) for variant in variants}
    return documents.filled(text, lines)


def measured(variant: Variant, rows: Sequence[Cells]) -> str:
    """One variant's cells; a row of other options or schedule than it has now is none of its."""
    by_workload = {
        row["workload"]: row
        for row in rows
        if (row["variant"], row["optimizer"]) == (variant.name, variant.optimizer)
        and files.parse_json(row["options"], "options") == variant.changes
    }
    ratios = [_ratios(by_workload.get(name)) for name in workloads(rows)]
    schedule = "" if variant.schedule == SCHEDULES[0] else f", {variant.schedule} learning rate"
    return " | ".join([f"`{label(variant)}`{schedule}", *ratios])


def _ratios(row: Cells | None) -> str:
    if row is None:
        return documents.UNKNOWN
    try:
        ratio, near = (
            ratio_text(float(row[name] or "nan"), row[f"{name}_bound"])
            for name in ("ratio", "near_ratio")
        )
    except ValueError as error:
        raise UserError(f"the comparison's table is damaged: {error}") from error
    return f"{ratio} ({near})"


def label(variant: Variant) -> str:
    """What a variant changes, as a call's arguments.

    >>> label(Variant("x", "ours_soap", {"grafting": None, "betas": [0.0, 0.9]}))
    'method="soap", grafting=None, betas=(0.0, 0.9)'
    """
    method = {"method": METHODS[variant.optimizer]} if variant.optimizer in METHODS else {}
    changed: Mapping[str, Any] = method | dict(variant.options)
    return ", ".join(f"{name}={_python(name, value)}" for name, value in changed.items())


def _python(name: str, value: Any) -> str:
    if name.endswith("_dtype"):
        return f"torch.{value}"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float):
        return format(value, "g")
    return repr(tuple(value) if isinstance(value, list) else value)


if __name__ == "__main__":
    cli.run(main)
