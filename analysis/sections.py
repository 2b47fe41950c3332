"""The text of a report in Markdown, section by section."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from analysis import blocks, checks, dropout, style, tables
from analysis.evaluations import Problem
from analysis.figures import CAPTIONS
from analysis.headline import hero_of
from analysis.judgement import Judgement
from analysis.run_facts import hardware_of
from analysis.texts import count_text, interval_text
from common import files
from common.cli import UserError
from workloads import registry
from workloads.official.facts import NEWEST
from workloads.rulesets import STANDIN, Ruleset

MANIFEST = "manifest.json"

_STANDIN_NOTE = (
    "> These are stand-in workloads: small models on real data that imitate AlgoPerf's workloads. "
    "They are **not** AlgoPerf results."
)
_PUBLISHED_NOTE = (
    "> Entries marked † are the leaderboard's own, published runs (`results/published/`), on "
    "{hardware} GPUs. Compare seconds only with runs on such a machine; steps compare anywhere, "
    "where batch sizes are the same. Published runs have no learning curves here, only crossings."
)
_SCORES = """\
A score is the mean, over factors from 1 to 4, of the share of base workloads on which an entry's
median time is within that factor of the fastest entry's. It depends on who else is in the pool. The
intervals are 95% percentiles of a bootstrap over studies, each cell's on its own; with so few
studies they are about the studies' range, and a lower bound on the doubt. Targets reached are
those that the median study meets."""
_MEANS = """\
The time ratio is the geometric mean over base workloads that either has run, a missed target
counted as the budget plus a second."""
_STANDIN_MEANS = """\
The time ratio is the geometric mean over the workloads on which both medians reach the target."""
_CLEAR = """\
Faster and slower are said where the whole interval of the ratio is on that side of 1, and all that
the evaluation periods leave open."""
_METHOD = """\
A trial's time to target is the submission time (and the step) of its first evaluation that meets
the validation target, so it is known to one evaluation period. A study counts the steps and the
seconds of its best trial, which is the one that meets the target at the earliest evaluation.
Numbers are medians over studies, and a study that misses the target counts as infinite. Seconds per
step, and the cost ratio of them, are medians over all trials in their whole length, from the first
evaluation on; the seconds ratio is therefore only about steps ratio x cost ratio. Ratios to the
baseline are in parentheses, their intervals in brackets; a ratio below 1 is in the entry's favour.
An interval begins at 0 where the baseline's median misses the target in more than one of 40
resamples. Trials are points x studies."""
_ONE_RATE = """\
Points differ in dropout, which makes a step dearer, so the cost ratio is formed at one dropout
rate: within each rate that both have run, and the median over these rates; a dash where they have
none in common. Steps and seconds to the target are as run."""
# Above these, a table or a list is folded away, or left to its file.
_ROWS = 40
_ENTRIES = 4
# How an entry's time may compare with the baseline's.
_KINDS = {
    "faster": "faster",
    "slower": "slower",
    "unclear": "no clear difference",
    "alone": "reaches the target, which the baseline's median misses,",
    "missed": "misses the target, which the baseline's median reaches,",
    "neither": "both medians miss the target",
    "cut": "cut short by --max_steps, itself or the baseline,",
}


def title(judged: Judgement) -> str:
    """What the report is called."""
    rivals = ", ".join(style.label(name) for name in judged.entries if name != judged.baseline)
    subject = rivals if len(judged.entries) <= _ENTRIES else f"{len(judged.entries)} submissions"
    if judged.baseline is None:
        return f"Time to target: {subject}"
    return f"Time to target: {subject} against {style.label(judged.baseline)}"


def report(
    judged: Judgement,
    manifest: str,
    pictures: Sequence[str],
    problems: Sequence[tuple[str, str, bool]],
) -> str:
    """The whole report.

    Args:
      judged: the logs' judgement.
      manifest: facts of the run, as `manifest_facts` returns.
      pictures: the figures, relative to the report.
      problems: path and reason of what could not be used, or must be known, and whether it is a
        warning.
    """
    notes = [_STANDIN_NOTE] if judged.is_standin else []
    if planned := checks.smaller_plan(judged.trials, judged.rules):
        notes.append(_plan_note(*planned, judged.rules))
    if any(style.is_published(name) for name in judged.entries):
        notes.append(_PUBLISHED_NOTE.format(hardware=hardware_of(judged.rules.version)))
    warnings = [f"> **Warning:** {tables.escape(row[1])}." for row in problems if row[2]]
    notes += ["\n>\n".join(warnings)] if warnings else []
    parts = [
        f"# {tables.escape(title(judged))}",
        *notes,
        _pictures(pictures, "time_to_target"),
        f"## Scores\n\n{_rules(judged)}\n\n{tables.scores_table(judged)}\n\n{_SCORES}"
        + _means(judged),
        _pictures(pictures, "summary"),
        f"## What the numbers say\n\n{_findings(judged)}",
        f"## Time to target\n\n{blocks.times(judged)}\n\n{_method(judged)}",
        _pictures(pictures, "steps_to_target"),
        _under("Where it comes from", pictures, "factors", "step_cost"),
        _under("Performance profiles", pictures, "performance_profiles"),
        _under("Learning curves", pictures, "learning_curves"),
        f"## Points\n\n{blocks.points(judged)}",
        f"## The run\n\n{manifest}" if manifest else "",
        _problems([row[:2] for row in problems]) if problems else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def overview(judged: Judgement) -> list[str]:
    """One finding per entry: its score, and on which workloads it is faster or slower.

    An entry is said to be faster or slower than the baseline on a workload only where the whole
    interval of the ratio of their times is on that side of 1, and all that the evaluation periods
    allow.

    Args:
      judged: the logs' judgement.
    """
    scores = judged.intervals.scores.set_index("submission")
    better = judged.intervals.better.set_index(["a", "b"])["probability"]
    lines = []
    for place, name in enumerate(judged.entries, start=1):
        row = scores.loc[name]
        score = interval_text(row["score"], row["ci_low"], row["ci_high"], digits=3)
        rank = f"score {score}, place {place} of {len(judged.entries)}"
        sentences = [f"**{style.label(name)}**: {rank}."]
        if judged.baseline is not None and name != judged.baseline:
            against = style.label(judged.baseline)
            groups = compare_times(judged, name)
            parts = [
                f"{text} on {len(groups[kind])} ({', '.join(groups[kind])})"
                for kind, text in _KINDS.items()
                if groups[kind]
            ]
            if parts:
                sentences.append(f"Against {against}: {'; '.join(parts)}.")
            mean = tables.mean_text(judged, name)
            sentences.append(f"Geometric mean of the time ratios: {mean} workloads.")
            share = better.get((name, judged.baseline))
            if share is not None:
                sentences.append(f"Its score is above {against}'s in {share:.0%} of resamples.")
        lines.append(" ".join(sentences))
    return lines


def compare_times(judged: Judgement, name: str) -> dict[str, list[str]]:
    """Workloads by how an entry's time compares with the baseline's.

    Args:
      judged: the logs' judgement, with a baseline.
      name: the entry.

    Returns:
      `faster` and `slower` (the whole interval of the ratio is on that side of 1, and all that the
      evaluation periods allow), `unclear` (it is not, or there is none), `alone` (only the entry's
      median reaches the target), `missed` (only the baseline's does), `neither`, `cut` (a median
      that does not was cut short); each with its workloads, in the order of `judged`.
    """
    groups: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    table = judged.cells.set_index(["submission", "workload"])
    cells = table["median_seconds"]
    was_cut = (table["cut"] > 0) & np.isinf(cells)
    rows = judged.intervals.ratios
    rows = rows[rows["submission"] == name].set_index("workload")
    for workload in judged.facts:
        if workload not in rows.index or (judged.baseline, workload) not in cells.index:
            continue
        row = rows.loc[workload]
        if was_cut[name, workload] or was_cut[judged.baseline, workload]:
            kind = "cut"
        elif math.isnan(row["ratio"]):
            kind = "alone" if math.isfinite(cells[name, workload]) else "neither"
        elif math.isinf(row["ratio"]):
            kind = "missed"
        elif row["ci_high"] < 1 and row["latest"] < 1:
            kind = "faster"
        else:
            kind = "slower" if row["ci_low"] > 1 and row["earliest"] > 1 else "unclear"
        groups[kind].append(workload)
    return groups


def manifest_facts(path: Path, problems: list[Problem]) -> str:
    """The key facts of a study's manifest as a list; empty if it has none."""
    if not path.exists():
        return ""
    try:
        manifest = files.read_json(path)
    except UserError as error:
        problems.append(Problem(path, f"{error}; left out"))
        return ""
    if not isinstance(manifest, Mapping):
        problems.append(Problem(path, "holds no JSON object; left out"))
        return ""
    return "\n".join(tables.escape(line) for line in tables.manifest_facts(manifest))


def _plan_note(points: int, studies: int, rules: Ruleset) -> str:
    own = count_text([points], "point", "points")
    repeats = count_text([studies], "study", "studies")
    return (
        f"> Every entry ran {own} on each workload, in {repeats}; the rules have {rules.trials} "
        f"points and {rules.studies} studies. It is the same for all entries."
    )


def _rules(judged: Judgement) -> str:
    rules = judged.rules
    if rules.version == STANDIN:
        run, known = rules.base_workloads, registry.names("standin")
        pool = "the stand-ins"
        if len(run) < len(known):
            pool = f"{len(run)} of the {len(known)} stand-ins, those that were run"
        return f"By the rules of AlgoPerf {NEWEST}, external tuning, over {pool}."
    text = f"By the rules of AlgoPerf {rules.version}, {rules.name.replace('_', '-')} tuning."
    if not_run := [name for name in rules.base_workloads if name not in judged.facts]:
        text += f" Nobody here has run {', '.join(not_run)}; missed by all."
    return text


def _means(judged: Judgement) -> str:
    if judged.baseline is None:
        return ""
    return " " + (_STANDIN_MEANS if judged.rules.version == STANDIN else _MEANS)


def _findings(judged: Judgement) -> str:
    lines = list(map(tables.escape, overview(judged)))
    if judged.baseline is None:
        return _list([*lines, "There is no baseline to compare times with."])
    if len(judged.entries) <= _ENTRIES:
        return f"{_CLEAR}\n\n{_list(lines)}" if len(lines) > 1 else _list(lines)
    # In a crowd, the best, and those whom the report is about.
    told = {judged.entries[0], hero_of(judged), judged.baseline}
    first = [line for line, name in zip(lines, judged.entries, strict=True) if name in told]
    all_of_them = blocks.folded(f"All {len(lines)} entries", _list(lines))
    return f"{_CLEAR}\n\n{_list(first)}\n\n{all_of_them}"


def _method(judged: Judgement) -> str:
    text = _METHOD
    if dropout.rates_differ(judged.trials["hyperparameters"]):
        text += f"\n{_ONE_RATE}"
    notes = list(map(tables.escape, tables.dropout_notes(judged)))
    return f"{text}\n\n{_list(notes)}" if notes else text


def _under(heading: str, pictures: Sequence[str], *stems: str) -> str:
    shown = "\n\n".join(filter(None, (_pictures(pictures, stem) for stem in stems)))
    return f"## {heading}\n\n{shown}" if shown else ""


def _pictures(pictures: Sequence[str], stem: str) -> str:
    names = [name for name in pictures if Path(name).stem.startswith(stem)]
    if not names:
        return ""
    shown = [f"![{Path(name).stem.replace('_', ' ')}]({name})" for name in names]
    return "\n\n".join([*shown, CAPTIONS[stem]])


def _problems(problems: Sequence[tuple[str, str]]) -> str:
    lines = [f"`{path.replace('`', '')}`: {tables.escape(reason)}" for path, reason in problems]
    note = "What could not be used, or must be known to judge the numbers."
    text = _list(lines)
    if len(lines) > _ROWS:
        text = blocks.folded(f"{len(lines)} notes", text)
    return f"## Problems in the logs\n\n{note}\n\n{text}"


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
