"""From a folder or a table of logs to scores, figures and a page that says what they show.

python -m analysis.report --logs=DIR_OR_TABLE --output=DIR \\
  [--version=v1.0] [--ruleset=external] [--baseline=nadamw] [--compare_published]
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from absl import flags

from analysis import figures, page, sections, tables
from analysis.choice import choose_rules
from analysis.evaluations import Problem
from analysis.judgement import BASELINES, Judgement, judge
from analysis.layout import REPORT
from analysis.logs import TRIAL_KEYS, Logs, read_logs
from analysis.scoring import CELL_KEYS
from common import cli, files
from common.cli import UserError
from workloads import registry
from workloads.official.facts import VERSIONS
from workloads.rulesets import STANDIN, Ruleset
from workloads.rulesets import ruleset as ruleset_of

SCORES = "scores.csv"
TIME_TO_TARGET = "time_to_target.csv"
POINTS = "points.csv"
REMARKS = "remarks.csv"
PAGE = "index.html"
FIGURES = "figures"

# A terminal shows this many rows at a glance.
_ROWS = 24


@dataclasses.dataclass(frozen=True)
class Report:
    """The judgement of a set of logs, and the files that it was written to.

    Attributes:
      judged: the judgement.
      files: what was written, the tables and pages first, then the figures.
      unusable: what in the logs could not be used, or only in part.
      note: on the choice of the rules; may be empty.
    """

    judged: Judgement
    files: list[Path]
    unusable: list[Problem]
    note: str


def write_report(
    logs_path: Path,
    output: Path,
    baseline: str | None = None,
    *,
    version: str | None = None,
    ruleset: str | None = None,
    compare_published: bool = False,
    resamples: int = 1000,
) -> Report:
    """Reads the logs and writes the tables, the figures and the pages into `output`.

    Args:
      logs_path: as `analysis.logs.read_logs` takes it; the `manifest.json` of a folder is quoted.
      output: a folder, created if it is missing.
      baseline: the submission to compare with; None means the first of `judgement.BASELINES`.
      version, ruleset: as `choice.choose_rules` takes them.
      compare_published: whether the published leaderboard takes part.
      resamples: of the bootstrap; at least 1.

    Raises:
      UserError: nothing usable in the logs, an unknown version, ruleset or baseline, or `output`
        cannot be written to.
    """
    if version is not None:
        ruleset_of(version)
    logs = read_logs(logs_path, ignore=output / FIGURES)
    rules, note = choose_rules(logs, version, ruleset)
    logs = known_to(logs, rules, logs_path)
    judged = judge(
        logs,
        rules,
        baseline,
        where=logs_path,
        compare_published=compare_published,
        resamples=resamples,
    )
    files.make_directory(output)
    unusable = list(logs.problems)
    manifest = sections.manifest_facts(logs_path / sections.MANIFEST, unusable)
    pictures = figures.draw(judged, output / FIGURES)
    remarks = [*unusable, *judged.problems]
    for name, table in (
        (SCORES, scores_file(judged, logs)),
        (TIME_TO_TARGET, times_file(judged, logs)),
        (POINTS, judged.points),
        (REMARKS, remarks_file(remarks, logs_path)),
    ):
        files.write_text(output / name, table.to_csv(index=False))
    text = sections.report(
        judged,
        manifest,
        [path.relative_to(output).as_posix() for path in pictures if path.suffix == ".png"],
        [(*_relative(problem, logs_path), problem.is_warning) for problem in remarks],
    )
    files.write_text(output / REPORT, text)
    files.write_text(output / PAGE, page.page(text, output, sections.title(judged)))
    written = [output / name for name in (PAGE, REPORT, SCORES, TIME_TO_TARGET, POINTS, REMARKS)]
    return Report(judged, [*written, *pictures], unusable, note)


def known_to(logs: Logs, rules: Ruleset, where: Path) -> Logs:
    """The logs without workloads that the rules' version does not have; these are warned of.

    Raises:
      UserError: no others are left.
    """
    if rules.version == STANDIN:
        return logs
    unknown = set(logs.frame["workload"]) - set(registry.names(version=rules.version))
    if not unknown:
        return logs
    names = ", ".join(sorted(unknown))
    known = logs.of(set(logs.frame["workload"]) - unknown)
    if known.frame.empty:
        raise UserError(f"{where} has logs of {names} alone, which {rules.version} does not have")
    frames = (logs.frame, known.frame)
    before, after = (len(frame.drop_duplicates(TRIAL_KEYS)) for frame in frames)
    count = before - after
    reason = f"workload {names} is not scored, {rules.version} does not have it: {count} trials"
    return dataclasses.replace(
        known, problems=[*known.problems, Problem(where, reason, is_warning=True)]
    )


def scores_file(judged: Judgement, logs: Logs) -> pd.DataFrame:
    """submission, score, ci_low, ci_high, hardware; the best first."""
    table = judged.intervals.scores.set_index("submission").loc[list(judged.entries)]
    table = table.reset_index()[["submission", "score", "ci_low", "ci_high"]]
    return table.assign(hardware=[_hardware(logs, (name,)) for name in table["submission"]])


def remarks_file(remarks: Sequence[Problem], directory: Path) -> pd.DataFrame:
    """kind (warning or note), path and remark: what must be known to judge the numbers."""
    rows = [
        ("warning" if problem.is_warning else "note", *_relative(problem, directory))
        for problem in sorted(remarks, key=lambda problem: not problem.is_warning)
    ]
    return pd.DataFrame(rows, columns=["kind", "path", "remark"])


def _hardware(logs: Logs, key: tuple[str, ...]) -> str:
    """What a submission, or a submission on a workload, ran on, by its logs."""
    kinds = {facts.hardware for run, facts in logs.runs.items() if run[: len(key)] == key}
    return " and ".join(sorted(kinds - {""}))


def times_file(judged: Judgement, logs: Logs) -> pd.DataFrame:
    """Medians of every submission on every workload, and their ratios to the baseline's.

    Returns:
      submission, workload, studies, median_seconds, median_steps, ratio_to_baseline (of seconds),
      ci_low, ci_high (of the ratio), hardware; inf where a target is missed, NaN where there is no
      ratio.
    """
    cells = judged.cells[[*CELL_KEYS, "studies", "median_seconds", "median_steps"]]
    ratios = judged.intervals.ratios[[*CELL_KEYS, "ratio", "ci_low", "ci_high"]]
    ratios = ratios.rename(columns={"ratio": "ratio_to_baseline"})
    table = cells.merge(ratios, on=CELL_KEYS, how="left")
    run_on = [_hardware(logs, key) for key in table[CELL_KEYS].itertuples(index=False)]
    return table.assign(hardware=run_on)


def _relative(problem: Problem, directory: Path) -> tuple[str, str]:
    inside = problem.path.is_relative_to(directory) and problem.path != directory
    path = problem.path.relative_to(directory) if inside else problem.path
    return path.as_posix(), problem.reason


def define_flags() -> None:
    """The command line's flags; defined here so that importing this module defines none."""
    flags.DEFINE_string(
        "logs", None, "folder of logs, one folder per submission, or a tidy table", required=True
    )
    flags.DEFINE_string("output", None, "folder to write the report to", required=True)
    flags.DEFINE_string(
        "version",
        None,
        f"of the benchmark: {', '.join(VERSIONS)} or standin (default: as most logs say)",
    )
    flags.DEFINE_string("ruleset", None, "external or self_tuning (default: as most logs say)")
    flags.DEFINE_string(
        "baseline", None, f"submission to compare with (default: {', '.join(BASELINES[:3])})"
    )
    flags.DEFINE_bool("compare_published", False, "set the published leaderboard beside the logs")
    flags.DEFINE_integer("resamples", 1000, "of the bootstrap", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    del argv
    given = flags.FLAGS
    output = Path(given.output)
    report = write_report(
        Path(given.logs),
        output,
        given.baseline,
        version=given.version,
        ruleset=given.ruleset,
        compare_published=given.compare_published,
        resamples=given.resamples,
    )
    judged = report.judged
    for problem in report.unusable:
        if not problem.is_warning:
            print(problem, file=sys.stderr)
    if report.note:
        print(f"note: {report.note}", file=sys.stderr)
    warnings = [row for row in (*report.unusable, *judged.problems) if row.is_warning]
    if count := len([row for row in judged.problems if not row.is_warning]):
        print(f"note: {count} remarks on the comparison, in {output / REPORT}", file=sys.stderr)
    for problem in warnings:
        print(f"warning: {problem.reason}", file=sys.stderr)
    print(tables.scores_table(judged, "simple"))
    if len(judged.cells) <= _ROWS:
        print(f"\n{tables.summary_table(judged, 'simple', brief=True)}")
    print()
    for path in report.files:
        print(path)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
