"""Steps to targets with one thing changed, over those of an entry of the league as it is.

    python -m analysis.methods --logs=DIR    # DIR is what `scripts.league.vary` has written
    python -m analysis.methods               # writes the page anew

Every variant ran at the points that the base was tuned to, with the same seeds: one that wants
other hyperparameters is not done justice. Writes methods.csv, whose rows of variants that are not
in DIR stay, and methods.md to results/methods; variants.json there says what each variant changes.
earlier.csv there has variants that ran beside an earlier league, with the bases of that one.
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from absl import flags

from analysis import scoring
from analysis.logs import read_logs
from common import cli, documents, files
from common.cli import UserError
from scripts.local.metrics_log import read_csv, write_csv
from workloads import registry

FLAGS = flags.FLAGS
RESULTS = Path(__file__).parents[1] / "results"
FOLDER = RESULTS / "methods"
# What a variant is compared with, the first where it says nothing, and the league's entry of it.
BASE, _SHARE = "base", "share"
BASES = {BASE: "shampoo_ema", "adamw": "adamw", "published_winner": "published_winner"}
_COLUMNS = ["variant", "workload", "study", "steps"]
TABLE, EARLIER = "methods.csv", "earlier.csv"
_MARK = " †"
# A variant earns an option if its median ratio is at most the first, and none is above the second.
MOST_MEDIAN, MOST_WORST = 0.95, 1.05

_COLUMNS_OF_A_TABLE = 3
# Of the page; the others, with a table of variants each, are of docs/heuristics.md.
PACKAGES, DROP_IN, ENTRY = "packages", "drop-in", "entry"
SECTIONS = ("direction", "blocks", "roots", "refresh", "weights", "precision")

_INTRODUCTION = """\
# One thing changed, on nine stand-ins with three seeds

Median steps to the target over those of Shampoo + EMA
(`scripts/league/entries/shampoo_ema`), whose points, found by a search, and seeds every
variant has too. Mean: geometric, of the ratios seed by seed, without the trials that miss
the target. Above 1 is worse; > says that the median misses. Shampoo + EMA misses {missed}.
Evaluations come every 10 to 24 steps, so a ratio within 0.1 of 1 is one evaluation.
Stand-ins are not AlgoPerf. By `python -m analysis.methods`."""
_OF_EARLIER = """\
†: beside an earlier league, at the points that a search in narrower ranges had found
(`workloads/standin/points` at commit 917391c), when early refreshes came at powers of
two; Shampoo + EMA missed {missed} there."""
_LEFT_OUT = """\
## Chosen on eight workloads, shown on the ninth

The change with the least geometric mean of ratios on the eight others, none if none is
below 1; a change whose median misses a target there is not taken."""
_LEFT_OUT_COLUMNS = ("left out", "chosen", "on the eight", "on the ninth")
_OWN_SECTIONS = {
    PACKAGES: """\
## Other people's packages

Meta's Shampoo has the points and options of Shampoo + EMA, the SOAPs, without a
look-ahead, the points that a search found for this project's, which favours it; all are
evaluated at the same average of the weights. Meta's damping is the published winner's
1e-8 for Shampoo and its README's 1e-12 for SOAP. What else they do is their own.""",
    DROP_IN: """\
## Shampoo at AdamW's points

Steps over those of AdamW, at the points that a search found for AdamW, which misses
{missed}; a dash where its median does.""",
    ENTRY: """\
## The exponent of the entry for AlgoPerf

Options of that entry's points (look-ahead, refreshes every 100 steps, a damping of
1e-5, an average over a tenth), at the points that a search found for the published
winner's options, whose exponent is 1/4; steps over those of the published winner's.""",
}

Variants = Mapping[str, Mapping[str, object]]
# Steps as `read` returns them: beside the league as it is, and beside an earlier one.
Tables = Sequence[pd.DataFrame]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A variant beside the base.

    Attributes:
      ratios: by workload, of the medians over studies; infinite where the variant's misses the
        target, NaN where the base's does or the variant has not run.
      mean: geometric mean of the ratios study by study, where both reach the target.
      pairs: how many these are.
    """

    ratios: pd.Series
    mean: float
    pairs: int

    @property
    def earns_its_place(self) -> bool:
        """Whether the variant is an improvement that the rule of the project accepts."""
        return bool(self.ratios.median() <= MOST_MEDIAN and self.ratios.max() <= MOST_WORST)


def outcome(variant: pd.Series, base: pd.Series) -> Outcome:
    """Compares a variant with the base, both columns of a table as `read` returns.

    >>> trials = pd.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["workload", "study"])
    >>> steps = pd.DataFrame({"base": [10.0, 10.0], "some": [8.0, 6.0]}, trials)
    >>> result = outcome(steps["some"], steps["base"])
    >>> result.ratios.to_dict(), round(result.mean, 2), result.pairs
    ({'a': 0.7}, 0.69, 2)
    """
    medians, own = (steps.groupby("workload").median() for steps in (base, variant))
    pairs = (variant / base)[np.isfinite(variant) & np.isfinite(base)]
    mean = statistics.geometric_mean(pairs) if len(pairs) else math.nan
    return Outcome(own / medians.where(np.isfinite(medians)), mean, len(pairs))


def read(path: Path) -> pd.DataFrame:
    """Steps by workload and study, a column per variant; UserError for a damaged file.

    They are infinite where the target was missed, and NaN where the variant has not run.
    """
    rows = pd.DataFrame(read_csv(path, _COLUMNS), columns=_COLUMNS)
    rows = rows.astype({"study": int, "steps": float})
    return rows.pivot(index=["workload", "study"], columns="variant", values="steps")


def tables(folder: Path = FOLDER) -> Tables:
    """The tables of a folder, of which an earlier league's may be absent; UserError as `read`."""
    earlier = folder / EARLIER
    return [read(folder / TABLE), *([read(earlier)] if earlier.exists() else [])]


def page(steps: Tables, variants: Variants) -> str:
    """The page of what was found, variants in the order of `variants`."""
    own = _outcomes(steps, variants, SECTIONS)
    earning = [name for name, result in own.items() if result.earns_its_place]
    patches = [name for name in own if "point" not in variants[name]]
    rule = (
        f"A change earns an option if its median is at most {MOST_MEDIAN:g} and no ratio is above\n"
        f"{MOST_WORST:g}: {', '.join(earning) or 'none does'}."
    )
    parts = [
        _INTRODUCTION.format(missed=missed_text(BASE, steps)),
        *(_OF_EARLIER.format(missed=missed_text(BASE, [table])) for table in steps[1:]),
        _table(own, steps, variants),
        rule,
        "No options, but patches of the code for these tables:",
        "\n".join(f"- {variants[name]['changed']}: {variants[name]['note']}" for name in patches),
        "## By workload",
        *_by_workload(own, steps, variants),
        _LEFT_OUT,
        documents.table(_leave_one_out(own, variants), left=2, fmt="pipe"),
    ]
    for section, text in _OWN_SECTIONS.items():
        if outcomes := _outcomes(steps, variants, [section]):
            if section == DROP_IN:
                text = text.format(missed=missed_text("adamw", steps))
            table = _table(outcomes, steps, variants)
            parts += [text, table, *_by_workload(outcomes, steps, variants)]
    return "\n\n".join(parts) + "\n"


def _outcomes(steps: Tables, variants: Variants, sections: Sequence[str]) -> dict[str, Outcome]:
    """Those of the sections' variants that have run."""
    return {
        name: _outcome(name, steps, variants)
        for name, variant in variants.items()
        if any(name in table for table in steps) and variant["section"] in sections
    }


def _outcome(name: str, steps: Tables, variants: Variants) -> Outcome:
    """A variant beside what it is compared with."""
    table = _table_of(name, steps)
    return outcome(table[name], table[str(variants[name].get("against", BASE))])


def _table_of(name: str, steps: Tables) -> pd.DataFrame:
    """The first table that a variant is in."""
    return next(table for table in steps if name in table)


def _changed(name: str, steps: Tables, variants: Variants) -> str:
    return f"{variants[name]['changed']}{'' if name in steps[0] else _MARK}"


def _table(outcomes: Mapping[str, Outcome], steps: Tables, variants: Variants) -> str:
    """A row per variant, over all workloads."""
    rows = [
        {
            "changed": _changed(name, steps, variants),
            "median": _ratio(result.ratios.median()),
            "mean": documents.number(result.mean, ".2f"),
            "worst": _ratio(result.ratios.max()),
            "missed": missed_text(name, steps),
        }
        for name, result in outcomes.items()
    ]
    return documents.table(rows, left=1, fmt="pipe")


def _leave_one_out(outcomes: Mapping[str, Outcome], variants: Variants) -> list[dict[str, str]]:
    """A row per workload: the change that the others choose, and what it does on this one."""
    options = {
        name: found.ratios for name, found in outcomes.items() if variants[name].get("point")
    }
    ratios = pd.DataFrame(options)
    rows, shown = [], []
    for left_out in ratios.index:
        means = np.exp(np.log(ratios.drop(left_out)).mean())
        means = means[means < 1]
        chosen, on_eight, ratio = "none", 1.0, 1.0
        if len(means):
            best = str(means.idxmin())
            chosen, on_eight = str(variants[best]["changed"]), means[best]
            ratio = ratios.at[left_out, best]
        shown.append(math.inf if math.isnan(ratio) else ratio)
        texts = (left_out, chosen, _ratio(on_eight), _ratio(ratio))
        rows.append(dict(zip(_LEFT_OUT_COLUMNS, texts, strict=True)))
    last = ("geometric mean", "", "", _ratio(float(np.exp(np.log(shown).mean()))))
    return [*rows, dict(zip(_LEFT_OUT_COLUMNS, last, strict=True))]


def _by_workload(outcomes: Mapping[str, Outcome], steps: Tables, variants: Variants) -> list[str]:
    """Tables of a few workloads each, with a row per variant."""
    table = pd.DataFrame({name: result.ratios.map(_ratio) for name, result in outcomes.items()}).T
    table["changed"] = [_changed(name, steps, variants) for name in table.index]
    workloads = [name for name in registry.names("standin") if name in table]
    return [
        documents.table(
            table[["changed", *workloads[start : start + _COLUMNS_OF_A_TABLE]]].to_dict("records"),
            left=1,
            fmt="pipe",
        )
        for start in range(0, len(workloads), _COLUMNS_OF_A_TABLE)
    ]


@functools.cache
def _committed() -> Tables:
    return tables()


def _variants(folder: Path = FOLDER) -> Variants:
    variants: Variants = files.read_json(folder / "variants.json")
    return variants


def section_table(section: str) -> str:
    """The committed variants of a section."""
    steps, variants = _committed(), _variants()
    return _table(_outcomes(steps, variants, [section]), steps, variants)


def shares_text() -> str:
    """What the committed variants of the average's share took of the base's steps, in the mean."""
    of_all = {name for table in _committed() for name in table}
    shares = sorted(name.removeprefix(_SHARE) for name in of_all if name.startswith(_SHARE))
    return ", ".join(f"{mean_text(_SHARE + share)} ({share})" for share in shares)


def missed_text(variant: str, steps: Tables | None = None) -> str:
    """How many trials of a variant, by default a committed one, miss the target."""
    steps = _committed() if steps is None else steps
    of_variant = _table_of(variant, steps)[variant]
    return f"{np.isinf(of_variant).sum()} of {of_variant.count()}"


def pairs_text(variant: str) -> str:
    """Of how many trials of a committed variant the mean is: both reach the target."""
    steps = _committed()
    of_variant = _table_of(variant, steps)[variant]
    return f"{_outcome(variant, steps, _variants()).pairs} of {of_variant.count()}"


def mean_text(variant: str) -> str:
    """What a committed variant took of the base's steps, in the mean; a dash before it has run."""
    steps = _committed()
    if not any(variant in table for table in steps):
        return documents.UNKNOWN
    return f"{_outcome(variant, steps, _variants()).mean:.2f}"


def _ratio(value: float) -> str:
    return ">" if math.isinf(value) else documents.number(value, ".2f")


def collect(logs: Path) -> list[dict[str, object]]:
    """A row per variant, workload and study, of the logs in a folder per variant.

    Raises:
      UserError: if there is no such folder, or as `read_logs`.
    """
    if not logs.is_dir():
        raise UserError(f"--logs={logs} is no folder; give one with a folder of logs per variant")
    folders = sorted(path for path in logs.iterdir() if path.is_dir())
    return [row for folder in folders for row in _rows(_studies(folder), folder.name)]


def base_rows() -> list[dict[str, object]]:
    """The same of what variants are compared with, of the league's committed logs."""
    studies = _studies(RESULTS / "league")
    return [
        row
        for base, entry in BASES.items()
        for row in _rows(studies[studies["submission"] == entry], base)
    ]


def merged(
    kept: Sequence[Mapping[str, object]], rows: Sequence[Mapping[str, object]]
) -> list[Mapping[str, object]]:
    """Rows of a table, `kept`, with those of the variants in `rows` in place of their own.

    Raises:
      UserError: if variants stay that were compared with other studies of the bases.
    """
    new = {str(row["variant"]) for row in rows}
    stay = [row for row in kept if row["variant"] not in new]
    before, now = (
        {tuple(map(str, (row[name] for name in _COLUMNS))) for row in of if row["variant"] in BASES}
        for of in (kept, rows)
    )
    if stay and before != now:
        names = ", ".join(dict.fromkeys(str(row["variant"]) for row in stay))
        raise UserError(
            f"the league has run again since these variants: {names}; run them again, too, or "
            "give another --output"
        )
    return [*stay, *rows]


def _studies(logs: Path) -> pd.DataFrame:
    return scoring.score_studies(scoring.score_trials(read_logs(logs).frame))


def _rows(studies: pd.DataFrame, variant: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = studies.assign(variant=variant)[_COLUMNS].to_dict("records")
    return rows


# For documents.
TABLES: Mapping[str, Callable[[], str]] = {
    "shares": shares_text,
    **{
        f"missed-{name}": functools.partial(missed_text, name)
        for name in ("adamw", "drop_in", "entry_quarter", "entry_half")
    },
    "pairs-drop_in": functools.partial(pairs_text, "drop_in"),
    **{f"variants-{name}": functools.partial(section_table, name) for name in (*SECTIONS, DROP_IN)},
    **{f"steps-{name}": functools.partial(mean_text, name) for name in _variants()},
}


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("logs", None, "folder with a folder of logs per variant")
    flags.DEFINE_string("output", str(FOLDER), "folder with variants.json")


def main(argv: Sequence[str]) -> None:
    """Writes the table and the page."""
    del argv
    output = Path(FLAGS.output)
    variants, path = _variants(output), output / TABLE
    if FLAGS.logs:
        rows = collect(Path(FLAGS.logs)) + base_rows()
        if unknown := {str(row["variant"]) for row in rows} - {*variants, *BASES}:
            raise UserError(
                f"--logs={FLAGS.logs}: {', '.join(sorted(unknown))} not in variants.json"
            )
        kept = read_csv(path, _COLUMNS) if path.exists() else []
        write_csv(path, merged(kept, rows))
    steps = tables(output)
    if BASE not in steps[0]:
        raise UserError(f"{path} has no rows of {BASE!r}, which all others are compared with")
    files.write_text(output / "methods.md", page(steps, variants))
    print(f"wrote {output / 'methods.md'}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
