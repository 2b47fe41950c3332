"""Writes measured ablations into docs/heuristics.md.

    python -m scripts.heuristics_table

In the document, what stands between `<!--measured: a b-->` and `<!--/-->` is one line for each of
the named variants of scripts/variants/ablations.json: what it changes, and for each stand-in the
ratio of its median steps to the target to those of its baseline, and in brackets the same for a
value near the target (`scripts.compare`). A variant that has not been run has a dash.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import cli, files
from common.cli import UserError
from scripts.compare import table as compare_table
from scripts.compare.plan import Variant, read_variants
from scripts.compare.table import COLUMNS, Row
from scripts.local.environment import ROOT
from scripts.local.metrics_log import read_csv
from workloads import registry

FLAGS = flags.FLAGS
DOCUMENT = ROOT / "docs" / "heuristics.md"
VARIANTS = ROOT / "scripts" / "variants" / "ablations.json"
TABLE = ROOT / "results" / "ablations" / "compare.csv"
_METHODS = {"ours_soap": "soap", "ours_kl_shampoo": "kl_shampoo"}
_SPAN = re.compile(r"<!--measured:([^>]*)-->(.*?)<!--/-->")


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("document", str(DOCUMENT), "Markdown file to fill in")
    flags.DEFINE_string("variants", str(VARIANTS), "variants file of the comparison")
    flags.DEFINE_string(
        "table", None, f"compare.csv of the comparison (default: {TABLE}, if there is one)"
    )


def main(argv: Sequence[str]) -> int:
    """Fills in the document."""
    del argv
    document = Path(FLAGS.document)
    _, variants = read_variants(Path(FLAGS.variants))
    rows = read_rows(Path(FLAGS.table)) if FLAGS.table else committed_rows()
    try:
        text = document.read_text("utf-8")
    except OSError as error:
        raise UserError(f"cannot read {document}: {error.strerror}") from error
    files.write_text(document, filled(text, variants, rows))
    print(f"wrote {document} from {len(rows)} rows")
    return 0


def committed_rows() -> list[Row]:
    """The rows of the repository's own table; none before it has been measured."""
    return read_rows(TABLE) if TABLE.exists() else []


def read_rows(table: Path) -> list[Row]:
    """The rows of a compare.csv; UserError if it is missing or damaged."""
    try:
        return [compare_table.from_cells(cells) for cells in read_csv(table, COLUMNS)]
    except (TypeError, ValueError) as error:
        raise UserError(f"{table} is damaged: {error}") from error


def filled(text: str, variants: Sequence[Variant], rows: Sequence[Row]) -> str:
    """`text` with the measured figures; UserError for a variant that does not exist."""
    by_name = {variant.name: variant for variant in variants}

    def fill(match: re.Match[str]) -> str:
        names = match[1].split()
        if unknown := [name for name in names if name not in by_name]:
            raise UserError(f"the document names {unknown[0]!r}, which is no variant")
        lines = [measured(by_name[name], rows) for name in names]
        return f"<!--measured:{match[1]}-->{'<br>'.join(lines)}<!--/-->"

    return _SPAN.sub(fill, text)


def named(text: str) -> list[str]:
    """The variants that a document asks for, in order."""
    return [name for match in _SPAN.finditer(text) for name in match[1].split()]


def measured(variant: Variant, rows: Sequence[Row]) -> str:
    """One variant's line; a row of other options than the variant has now is none of its."""
    found = {
        row.workload: row
        for row in rows
        if row.variant == variant.name
        and row.optimizer == variant.optimizer
        and json.loads(row.options) == dict(variant.options)
    }
    ratios = [
        f"{compare_table.ratio_text(row)} ({compare_table.near_ratio_text(row)})" if row else "–"
        for row in map(found.get, registry.names("standin"))
    ]
    return f"`{label(variant)}`: {' · '.join(ratios)}"


def label(variant: Variant) -> str:
    """What a variant changes, as a call's arguments.

    >>> label(Variant("x", "ours_soap", {"grafting": None, "betas": [0.0, 0.9]}))
    'method="soap", grafting=None, betas=(0.0, 0.9)'
    """
    method = {"method": _METHODS[variant.optimizer]} if variant.optimizer in _METHODS else {}
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
    define_flags()
    cli.run(main)
