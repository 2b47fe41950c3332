"""Steps to targets with one thing changed, over those of an entry of the league as it is.

    python -m analysis.methods --logs=DIR    # DIR is what `scripts.league.vary` has written
    python -m analysis.methods               # writes the page anew

Every variant ran at the points that the base was tuned to, with the same seeds: one that wants
other hyperparameters is not done justice. Writes methods.csv, whose rows of variants that are not
in DIR stay, and methods.md to results/methods; variants.json there says what each variant changes.
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

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
# What a variant is held against, the first where it says nothing, and the league's entry of it.
BASE, _SHARE = "base", "share"
BASES = {BASE: "shampoo_ema", "adamw": "adamw", "published_winner": "published_winner"}
_COLUMNS = ("variant", "workload", "study", "steps")
# A variant earns an option if its median ratio is at most the first, and none is above the second.
MOST_MEDIAN, MOST_WORST = 0.95, 1.05

_COLUMNS_OF_A_TABLE = 3
# Of the page; the others, with a table of variants each, are of docs/heuristics.md.
PACKAGES, DROP_IN, ENTRY = "packages", "drop-in", "entry"
SECTIONS = ("direction", "blocks", "roots", "refresh", "weights", "precision")

Variants = Mapping[str, Mapping[str, object]]
# Steps by workload and study, infinite where the target was missed.
Steps = Mapping[str, Mapping[int, float]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A variant beside the base.

    Attributes:
      ratios: by workload, of the medians over studies; infinite where the variant's misses the
        target, None where the base's does or the variant has not run.
      mean: geometric mean of the ratios study by study, where both reach the target.
      pairs: how many these are.
      missed: studies of the variant that miss a target.
    """

    ratios: Mapping[str, float | None]
    mean: float
    pairs: int
    missed: int

    @property
    def known(self) -> list[float]:
        """The ratios that there are."""
        return [ratio for ratio in self.ratios.values() if ratio is not None]

    @property
    def earns_its_place(self) -> bool:
        """Whether the variant is an improvement that the rule of the project accepts."""
        return statistics.median(self.known) <= MOST_MEDIAN and max(self.known) <= MOST_WORST


def outcome(variant: Steps, base: Steps) -> Outcome:
    """Compares a variant with the base.

    >>> found = outcome({"a": {1: 8.0, 2: 6.0}}, {"a": {1: 10.0, 2: 10.0}})
    >>> found.ratios, round(found.mean, 2), found.pairs
    ({'a': 0.7}, 0.69, 2)
    """
    ratios: dict[str, float | None] = {}
    pairs: list[float] = []
    for workload, studies in base.items():
        own, other = variant.get(workload, {}), statistics.median(studies.values())
        has_ratio = bool(own) and math.isfinite(other)
        ratios[workload] = statistics.median(own.values()) / other if has_ratio else None
        both = [(own[study], steps) for study, steps in studies.items() if study in own]
        pairs += (a / b for a, b in both if math.isfinite(a) and math.isfinite(b))
    mean = statistics.geometric_mean(pairs) if pairs else math.nan
    return Outcome(ratios, mean, len(pairs), _missed(variant))


def read(path: Path = FOLDER / "methods.csv") -> Mapping[str, Steps]:
    """Steps by variant; UserError for a damaged file."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for row in read_csv(path, _COLUMNS):
        studies = found.setdefault(row["variant"], {}).setdefault(row["workload"], {})
        studies[int(row["study"])] = float(row["steps"])
    return found


def page(found: Mapping[str, Steps], variants: Variants) -> str:
    """The page of what was found, variants in the order of `variants`."""
    own = _outcomes(found, variants, SECTIONS)
    earning = [name for name, result in own.items() if result.earns_its_place]
    base = found[BASE]
    lines = [
        "# One thing changed, on nine stand-ins with three seeds",
        "",
        "Median steps to the target over those of Shampoo + EMA",
        "(`scripts/league/entries/shampoo_ema`), whose points, found by a search, and seeds every",
        "variant has too. Mean: geometric, of the ratios seed by seed. Above 1 is worse; > says",
        f"that the median misses. Shampoo + EMA misses {_missed(base)} of {_trials(base)}.",
        "Evaluations come every 10 to 24 steps, so a ratio within 0.1 of 1 is one evaluation.",
        "Stand-ins are not AlgoPerf. By `python -m analysis.methods`.",
        "",
        _table(own, found, variants),
        "",
        f"A change earns an option if its median is at most {MOST_MEDIAN:g} and no ratio is above",
        f"{MOST_WORST:g}: {', '.join(earning) or 'none does'}.",
        "",
        "No options, but patches of the code for these tables:",
        "",
        *(
            f"- {variants[name]['changed']}: {variants[name]['note']}"
            for name in own
            if "point" not in variants[name]
        ),
        "",
        "## By workload",
        *_by_workload(own, variants),
        "",
        "## Chosen on eight workloads, shown on the ninth",
        "",
        "The change with the least geometric mean of ratios on the eight others, none if none is",
        "below 1; a change whose median misses a target there is not taken.",
        "",
        documents.table(_leave_one_out(own, variants), left=2, fmt="pipe"),
    ]
    if packages := _outcomes(found, variants, [PACKAGES]):
        lines += [
            "",
            "## Other people's packages",
            "",
            "Meta's Shampoo has the points and options of Shampoo + EMA, the SOAPs, without a",
            "look-ahead, the points that a search found for this project's; all are evaluated at",
            "the same average of the weights. What else they do is their own.",
            *_tables(packages, found, variants),
        ]
    if drop_in := _outcomes(found, variants, [DROP_IN]):
        lines += [
            "",
            "## Shampoo at AdamW's points",
            "",
            "Steps over those of AdamW, at the points that a search found for AdamW, which misses",
            f"{missed_text('adamw', found)}; a dash where its median does.",
            *_tables(drop_in, found, variants),
        ]
    if entry := _outcomes(found, variants, [ENTRY]):
        lines += [
            "",
            "## The exponent of the entry for AlgoPerf",
            "",
            "Options of that entry's points (look-ahead, refreshes every 100 steps, a damping of",
            "1e-5, an average over a tenth), at the points that a search found for the published",
            "winner's options, whose exponent is 1/4; steps over those of the published winner's.",
            *_tables(entry, found, variants),
        ]
    return "\n".join(lines) + "\n"


def _outcomes(
    found: Mapping[str, Steps], variants: Variants, sections: Sequence[str]
) -> dict[str, Outcome]:
    """Those of the sections' variants that have run."""
    return {
        name: _outcome(name, found, variants)
        for name, variant in variants.items()
        if name in found and variant["section"] in sections
    }


def _outcome(name: str, found: Mapping[str, Steps], variants: Variants) -> Outcome:
    """A variant beside what it is held against."""
    return outcome(found[name], found[str(variants[name].get("against", BASE))])


def _table(outcomes: Mapping[str, Outcome], found: Mapping[str, Steps], variants: Variants) -> str:
    """A row per variant, over all workloads."""
    rows = [
        {
            "changed": variants[name]["changed"],
            "median": _ratio(statistics.median(result.known)),
            "mean": documents.number(result.mean, ".2f"),
            "worst": _ratio(max(result.known)),
            "missed": missed_text(name, found),
        }
        for name, result in outcomes.items()
    ]
    return documents.table(rows, left=1, fmt="pipe")


def _tables(
    outcomes: Mapping[str, Outcome], found: Mapping[str, Steps], variants: Variants
) -> list[str]:
    """Over all workloads, and by workload."""
    return ["", _table(outcomes, found, variants), *_by_workload(outcomes, variants)]


def _leave_one_out(outcomes: Mapping[str, Outcome], variants: Variants) -> list[dict[str, str]]:
    """A row per workload: the change that the others choose, and what it does on this one."""
    options = {name: found for name, found in outcomes.items() if "point" in variants[name]}
    workloads = list(next(iter(outcomes.values())).ratios)
    rows, shown = [], []
    for left_out in workloads:
        means = {
            name: mean
            for name, found in options.items()
            if (mean := _mean_without(left_out, found)) is not None and mean < 1
        }
        best = min(means, key=means.__getitem__, default=None)
        ratio = 1.0 if best is None else options[best].ratios[left_out]
        shown.append(math.inf if ratio is None else ratio)
        rows.append(
            {
                "left out": left_out,
                "chosen": "none" if best is None else str(variants[best]["changed"]),
                "on the eight": _ratio(1.0 if best is None else means[best]),
                "on the ninth": _ratio(ratio),
            }
        )
    mean = math.inf if math.inf in shown else statistics.geometric_mean(shown)
    empty = dict.fromkeys(("chosen", "on the eight"), "")
    rows.append({"left out": "geometric mean", **empty, "on the ninth": _ratio(mean)})
    return rows


def _mean_without(left_out: str, found: Outcome) -> float | None:
    """Geometric mean of the ratios on all other workloads; None if a target is missed there."""
    ratios = [ratio for name, ratio in found.ratios.items() if name != left_out]
    known = [ratio for ratio in ratios if ratio is not None]
    return None if math.inf in known or not known else statistics.geometric_mean(known)


def _by_workload(outcomes: Mapping[str, Outcome], variants: Variants) -> list[str]:
    """Tables of a few workloads each, with a row per variant."""
    known = {workload for result in outcomes.values() for workload in result.ratios}
    workloads = [name for name in registry.names("standin") if name in known]
    tables = []
    for start in range(0, len(workloads), _COLUMNS_OF_A_TABLE):
        shown = workloads[start : start + _COLUMNS_OF_A_TABLE]
        rows = [
            {"changed": variants[name]["changed"]}
            | {workload: _ratio(result.ratios[workload]) for workload in shown}
            for name, result in outcomes.items()
        ]
        tables += ["", documents.table(rows, left=1, fmt="pipe")]
    return tables


@functools.cache
def _committed() -> Mapping[str, Steps]:
    return read()


def _variants(folder: Path = FOLDER) -> Variants:
    variants: Variants = files.read_json(folder / "variants.json")
    return variants


def section_table(section: str) -> str:
    """The committed variants of a section."""
    found, variants = _committed(), _variants()
    return _table(_outcomes(found, variants, [section]), found, variants)


def shares_text() -> str:
    """What the committed variants of the average's share took of the base's steps, in the mean."""
    found = _committed()
    shares = sorted(name.removeprefix(_SHARE) for name in found if name.startswith(_SHARE))
    return ", ".join(f"{mean_text(_SHARE + share)} ({share})" for share in shares)


def missed_text(variant: str, found: Mapping[str, Steps] | None = None) -> str:
    """How many trials of a variant, by default a committed one, miss the target."""
    steps = (found or _committed())[variant]
    return f"{_missed(steps)} of {_trials(steps)}"


def mean_text(variant: str) -> str:
    """What a committed variant took of the base's steps, in the mean; a dash before it has run."""
    found = _committed()
    if variant not in found:
        return documents.UNKNOWN
    return f"{_outcome(variant, found, _variants()).mean:.2f}"


def _ratio(value: float | None) -> str:
    if value is None:
        return documents.UNKNOWN
    return ">" if math.isinf(value) else f"{value:.2f}"


def _missed(steps: Steps) -> int:
    return sum(math.isinf(n) for studies in steps.values() for n in studies.values())


def _trials(steps: Steps) -> int:
    return sum(map(len, steps.values()))


def collect(logs: Path) -> list[dict[str, object]]:
    """A row per variant, workload and study, of the logs in a folder per variant."""
    folders = sorted(path for path in logs.iterdir() if path.is_dir())
    return [row for folder in folders for row in _rows(_steps(folder), folder.name)]


def base_rows() -> list[dict[str, object]]:
    """The same of what variants are held against, of the league's committed logs."""
    steps = _steps(RESULTS / "league")
    return [
        row
        for base, entry in BASES.items()
        for row in _rows(steps[steps["submission"] == entry], base)
    ]


def _steps(logs: Path) -> pd.DataFrame:
    return scoring.score_studies(scoring.score_trials(read_logs(logs).frame))


def _rows(steps: pd.DataFrame, variant: str) -> list[dict[str, object]]:
    return [
        dict(zip(_COLUMNS, (variant, row.workload, row.study, row.steps), strict=True))
        for row in steps.itertuples()
    ]


# For documents.
TABLES: Mapping[str, Callable[[], str]] = {
    "shares": shares_text,
    **{
        f"missed-{name}": functools.partial(missed_text, name)
        for name in ("adamw", "drop_in", "entry_quarter", "entry_half")
    },
    **{f"variants-{name}": functools.partial(section_table, name) for name in (*SECTIONS, DROP_IN)},
    **{
        f"steps-{name}": functools.partial(mean_text, name)
        for name in (
            *("heavy", "quarter", "interval100", "soap", "kl"),
            *("damping1e-4", "damping1e-10", "drop_in", "entry_quarter", "entry_half"),
            *("soap_own", "soap_own_qr", "soap_uncut", "po_soap"),
        )
    },
}


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("logs", None, "folder with a folder of logs per variant")
    flags.DEFINE_string("output", str(FOLDER), "folder with variants.json")


def main(argv: Sequence[str]) -> None:
    """Writes the table and the page."""
    del argv
    output = Path(FLAGS.output)
    variants, path = _variants(output), output / "methods.csv"
    if FLAGS.logs:
        rows = collect(Path(FLAGS.logs)) + base_rows()
        new = {str(row["variant"]) for row in rows}
        if unknown := new - {*variants, *BASES}:
            raise UserError(
                f"--logs={FLAGS.logs}: {', '.join(sorted(unknown))} not in variants.json"
            )
        kept = read_csv(path, _COLUMNS) if path.exists() else []
        write_csv(path, [*(row for row in kept if row["variant"] not in new), *rows])
    found = read(path)
    if BASE not in found:
        raise UserError(f"{path} has no rows of {BASE!r}, which all others are held against")
    files.write_text(output / "methods.md", page(found, variants))
    print(f"wrote {output / 'methods.md'}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
