"""From a folder of logs to tables, figures and a page that says what they show.

python -m analysis.report --logs=DIR --output=DIR [--baseline=adamw]
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from absl import flags

from analysis import checks, figures, findings, scoring, style, tables
from analysis.logs import Problem, read_logs
from common import cli, files
from common.cli import UserError
from workloads import registry
from workloads.facts import WorkloadFacts

DEFAULT_BASELINE = "adamw"
TIME_TO_TARGET = "time_to_target.csv"
POINTS = "points.csv"
REPORT = "report.md"
FIGURES = "figures"
MANIFEST = "manifest.json"

_STANDIN_NOTE = (
    "> These are stand-in workloads: small models on real data that imitate AlgoPerf's workloads. "
    "They are **not** AlgoPerf results."
)
_METHOD = """\
A trial's time to target is the submission time (and the step) of its first evaluation that meets
the validation target, so it is known to one evaluation period. A study counts the fewest steps and
the least seconds over its trials, each on its own, so the two may come from different points; the
best point is the one with fewest steps. Numbers are medians over studies, and a study that misses
the target counts as infinite. Seconds per step, and the cost ratio of them, are medians over all
trials in their whole length; the seconds ratio is therefore only about steps ratio x cost ratio. A
ratio below 1 is in the entry's favour. Trials are points x studies."""
_CURVES = """\
Learning curves show the one point of each entry whose median over studies has fewest steps, so its
numbers can be larger than those of the table, for which each study picks its own best."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What was learnt from a folder of logs, and where it was written.

    Attributes:
      baseline: the submission that ratios are relative to.
      workloads: as `analysis.scoring.score_workloads` returns.
      points: as `analysis.scoring.score_points` returns.
      figures: the figures' files.
      problems: everything in the logs that could not be used, or only in part, or that makes the
        comparison unfair.
    """

    baseline: str
    workloads: pd.DataFrame
    points: pd.DataFrame
    figures: list[Path]
    problems: list[Problem]


def write_report(logs_directory: Path, output: Path, baseline: str | None = None) -> Report:
    """Reads the logs and writes the tables, the figures and the page into `output`.

    Args:
      logs_directory: logs in the official layout; its `manifest.json` is quoted if there is one.
      output: a folder, created if it is missing.
      baseline: the submission to compare with. None means AdamW, and no ratios without its logs.

    Raises:
      UserError: nothing usable in the logs, no logs of a `baseline` that was asked for, or
        `output` cannot be written to.
    """
    logs = read_logs(logs_directory, ignore=output / FIGURES)
    submissions = sorted(set(logs.frame["submission"]))
    if baseline is not None and baseline not in submissions:
        allowed = ", ".join(submissions)
        raise UserError(f"--baseline={baseline} has no usable logs; those have: {allowed}")
    baseline = baseline or DEFAULT_BASELINE
    files.make_directory(output)
    problems = list(logs.problems)
    facts = {str(name): registry.facts(str(name)) for name in logs.frame["workload"].unique()}
    problems.extend(
        Problem(logs_directory, f"workload {name} has no validation target; nothing reaches it")
        for name, row in facts.items()
        if row.validation_target is None
    )
    if baseline not in submissions:
        problems.append(Problem(logs_directory, f"no usable logs of {baseline}; no ratios to it"))
    manifest = _manifest(logs_directory / MANIFEST, problems)
    trials = scoring.score_trials(logs.frame)
    table = scoring.score_workloads(trials, baseline)
    points = scoring.score_points(trials)
    problems.extend(checks.budget_problems(table, logs_directory))
    problems.extend(checks.hyperparameter_problems(trials, logs_directory))
    paths = figures.draw(
        logs.frame, trials, baseline, facts, files.make_directory(output / FIGURES)
    )
    files.write_text(output / TIME_TO_TARGET, table.to_csv(index=False))
    files.write_text(output / POINTS, points.to_csv(index=False))
    sections = [
        _heading(table, baseline, facts),
        *([f"## The run\n\n{manifest}"] if manifest else []),
        f"## Time to target\n\n{tables.summary_table(table, baseline)}\n\n{_METHOD}",
        _findings(table, baseline, facts),
        _pictures(paths, output),
        "## Points\n\nEach entry's search-space points, over studies.\n\n"
        + tables.points_table(points),
        *([_left_out(problems, logs_directory)] if problems else []),
    ]
    files.write_text(output / REPORT, "\n\n".join(sections) + "\n")
    return Report(baseline, table, points, paths, problems)


def _manifest(path: Path, problems: list[Problem]) -> str:
    """The key facts of the study's manifest; empty if it has none."""
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
    return "\n".join(tables.manifest_facts(manifest))


def _heading(table: pd.DataFrame, baseline: str, facts: Mapping[str, WorkloadFacts]) -> str:
    others = sorted({style.label(name) for name in table["submission"] if name != baseline})
    title = f"# Time to target: {', '.join(others)} against {style.label(baseline)}"
    if any(row.suite == "standin" for row in facts.values()):
        return f"{title}\n\n{_STANDIN_NOTE}"
    return title


def _findings(table: pd.DataFrame, baseline: str, facts: Mapping[str, WorkloadFacts]) -> str:
    lines = findings.findings(table, baseline, facts) or ["There is nothing to compare."]
    return "## What the numbers say\n\n" + "\n".join(f"- {line}" for line in lines)


def _pictures(paths: Sequence[Path], output: Path) -> str:
    pictures = [path.relative_to(output) for path in paths if path.suffix == ".png"]
    shown = [f"![{path.stem}]({path.as_posix()})" for path in pictures]
    return "\n\n".join(["## Figures", *shown, _CURVES])


def _left_out(problems: Sequence[Problem], directory: Path) -> str:
    lines = []
    for problem in problems:
        inside = problem.path.is_relative_to(directory) and problem.path != directory
        path = problem.path.relative_to(directory) if inside else problem.path
        lines.append(f"- `{path}`: {problem.reason}")
    return "## Problems in the logs\n\n" + "\n".join(lines)


def define_flags() -> None:
    """The command line's flags; defined here so that importing this module defines none."""
    flags.DEFINE_string("logs", None, "folder of logs, one folder per submission", required=True)
    flags.DEFINE_string("output", None, "folder to write the report to", required=True)
    flags.DEFINE_string(
        "baseline", None, f"submission to compare with (default: {DEFAULT_BASELINE})"
    )


def main(argv: Sequence[str]) -> None:
    del argv
    given = flags.FLAGS
    logs_directory, output = Path(given.logs), Path(given.output)
    report = write_report(logs_directory, output, given.baseline)
    for problem in report.problems:
        print(problem, file=sys.stderr)
    print(tables.summary_table(report.workloads, report.baseline, "simple"))
    print()
    for path in (output / REPORT, output / TIME_TO_TARGET, output / POINTS, *report.figures):
        print(path)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
