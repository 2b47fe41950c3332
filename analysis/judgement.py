"""All that is computed from a set of logs, once, for the figures, the report and the notebooks."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import checks, cuts, dropout, published, run_checks, scoring, statistics, style
from analysis.evaluations import Problem
from analysis.logs import Logs
from analysis.run_facts import hardware_of, listed, other_hardware
from analysis.statistics import Intervals
from common.cli import UserError, near
from workloads import registry
from workloads.facts import WorkloadFacts
from workloads.rulesets import STANDIN, Ruleset

# No optimizer's steps cost so much more than another's; on the v0.5 leaderboard two submissions
# count a hundred steps as one.
_OTHER_STEPS = 30.0
# The default baseline is the first of these that has usable logs. `baseline` is the leaderboard's
# NAdamW.
BASELINES = ("adamw", "nadamw", "baseline", style.published_name("baseline"))


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A pool of submissions, judged by one set of rules.

    Attributes:
      rules: the rules.
      baseline: the submission that ratios are to; None if it has no usable logs.
      facts: of every workload with logs: base workloads in the rules' order, each followed by its
        variants, then the rest by name.
      entries: all submissions, the best score first.
      frame: evaluations, as `analysis.logs.Logs.frame`; published trials have none.
      trials, studies: as `analysis.scoring.score_trials` and `score_studies` return.
      cells: as `analysis.scoring.score_workloads` returns.
      points: as `analysis.scoring.score_points` returns.
      intervals: as `analysis.statistics.bootstrap` returns, but for step costs where the dropout of
        best trials differs: see `analysis.dropout.at_one_rate`.
      dropout: where it differs, as `analysis.dropout.differences` returns.
      other_steps: submissions whose logs seem to count steps otherwise than the baseline's: their
        steps are not compared.
      problems: what makes the comparison unfair, or the scores other than the rules mean them.
    """

    rules: Ruleset
    baseline: str | None
    facts: Mapping[str, WorkloadFacts]
    entries: Sequence[str]
    frame: pd.DataFrame
    trials: pd.DataFrame
    studies: pd.DataFrame
    cells: pd.DataFrame
    points: pd.DataFrame
    intervals: Intervals
    dropout: dropout.Differences
    other_steps: Sequence[str]
    problems: Sequence[Problem]

    @property
    def is_standin(self) -> bool:
        """Whether some of the workloads are stand-ins, whose results are not AlgoPerf's."""
        return any(row.suite == "standin" for row in self.facts.values())


def judge(
    logs: Logs,
    rules: Ruleset,
    baseline: str | None = None,
    *,
    where: Path = Path("logs"),
    compare_published: bool = False,
    resamples: int = 1000,
) -> Judgement:
    """Scores logs, by themselves or beside the published leaderboard.

    Args:
      logs: as `analysis.logs.read_logs` returns, read with the version of `rules`.
      rules: the rules.
      baseline: the submission that ratios are to. None means the first of BASELINES that is there.
      where: the logs' path, for problems to name.
      compare_published: whether the published submissions of the same version and ruleset take
        part, under `analysis.style.published_name`. All scores are then relative to that pool.
      resamples: of the bootstrap.

    Raises:
      UserError: nothing is published for these rules or this hardware, or a `baseline` that was
        asked for is unknown. One whose logs are all unusable is a problem instead.
    """
    rules = dataclasses.replace(rules, budgets=run_checks.budgets_of(logs.runs, rules))
    trials = scoring.score_trials(logs.frame, facts_version(rules))
    runs = run_checks.run_problems(logs.runs, trials, rules, where)
    if compare_published:
        _check_comparable(logs, rules)
        rivals = published.read_trials(rules.version, rules.name)
        names = rivals["submission"].map(style.published_name)
        trials = pd.concat([trials, rivals.assign(submission=names)], ignore_index=True)
    submissions = sorted(set(trials["submission"]))
    problems = []
    if baseline is None:
        baseline = next((name for name in BASELINES if name in submissions), None)
        if baseline is None:
            known = ", ".join(BASELINES[:3])
            problems.append(Problem(where, f"no usable logs of {known}; no ratios to a baseline"))
    elif baseline not in submissions:
        # Logs of the baseline may exist of which none is usable.
        exists = (where / baseline).is_dir()
        exists |= any(row.reason.startswith(f"{baseline}/study_") for row in logs.problems)
        if not exists:
            allowed = f"{', '.join(submissions)}{near(submissions, baseline)}"
            raise UserError(f"--baseline={baseline} has no usable logs; those have: {allowed}")
        problems.append(Problem(where, f"no usable logs of {baseline}; no ratios to it"))
        baseline = None
    judged = judge_trials(
        trials, rules, baseline, frame=logs.frame, where=where, resamples=resamples
    )
    return dataclasses.replace(judged, problems=[*runs, *problems, *judged.problems])


def _check_comparable(logs: Logs, rules: Ruleset) -> None:
    """Raises UserError if logs must not be ranked among the published runs of a version."""
    if rules.version == STANDIN:
        raise UserError("--compare_published: stand-in workloads are not on the leaderboard")
    if others := other_hardware(rules.version, logs.runs.values()):
        raise UserError(
            f"--compare_published: the published runs of {rules.version} were on "
            f"{hardware_of(rules.version)}, these were on {listed(others)}; seconds on different "
            "hardware are not ranked together"
        )


def judge_trials(
    trials: pd.DataFrame,
    rules: Ruleset,
    baseline: str | None,
    *,
    frame: pd.DataFrame | None = None,
    where: Path = Path("logs"),
    resamples: int = 1000,
) -> Judgement:
    """As `judge`, of trials that are scored already.

    Args:
      trials: as `analysis.scoring.score_trials` returns.
      rules: the rules.
      baseline: the submission that ratios are to, one of those in `trials`, or None.
      frame: the evaluations, as far as they are known.
      where: the logs' path, for problems to name.
      resamples: of the bootstrap.
    """
    submissions = sorted(set(trials["submission"]))
    facts = _facts(set(trials["workload"]), rules, facts_version(rules))
    problems = [
        Problem(where, f"workload {name} has no validation target; nothing reaches it", True)
        for name, row in facts.items()
        if row.validation_target is None
    ]
    studies = scoring.score_studies(trials)
    cells = scoring.score_workloads(trials, baseline or "")
    problems.extend(checks.ruleset_problems(trials, rules, where))
    problems.extend(cuts.cut_problems(trials, facts, where))
    problems.extend(checks.budget_problems(cells, where))
    problems.extend(checks.hyperparameter_problems(trials, where))
    cost_ratios = cells.groupby("submission")["pace_ratio"].median()
    other_steps = cost_ratios[(cost_ratios > _OTHER_STEPS) | (cost_ratios < 1 / _OTHER_STEPS)]
    for name, cost in other_steps.items():
        reason = f"a logged step takes {cost:.3g} times the baseline's, so its logs seem to count "
        problems.append(Problem(where, f"{name}: {reason}steps otherwise; they are not compared"))
    intervals = statistics.bootstrap(studies, rules, baseline, resamples)
    differing = dropout.differences(trials, studies, baseline)
    ratios = dropout.at_one_rate(intervals.ratios, cells, differing)
    scores = intervals.scores.set_index("submission")["score"]
    return Judgement(
        rules=rules,
        baseline=baseline,
        facts=facts,
        entries=sorted(submissions, key=lambda name: (-scores[name], name)),
        frame=trials.iloc[:0] if frame is None else frame,
        trials=trials,
        studies=studies,
        cells=cells,
        points=scoring.score_points(trials, frame, facts_version(rules)),
        intervals=dataclasses.replace(intervals, ratios=ratios),
        dropout=differing,
        other_steps=list(other_steps.index),
        problems=problems,
    )


def facts_version(rules: Ruleset) -> str | None:
    """The version as `workloads.registry.facts` takes it."""
    return None if rules.version == STANDIN else rules.version


def _facts(names: set[str], rules: Ruleset, version: str | None) -> dict[str, WorkloadFacts]:
    known = {name: registry.facts(name, version) for name in names}
    bases = list(rules.base_workloads)

    def place(name: str) -> tuple[int, bool, str]:
        base = known[name].base or name
        return bases.index(base) if base in bases else len(bases), bool(known[name].base), name

    return {name: known[name] for name in sorted(names, key=place)}


def medians_of(judged: Judgement, hero: str, column: str, rival: str | None = None) -> pd.DataFrame:
    """Medians of two entries by workload, of those that both ran.

    Args:
      judged: the logs' judgement, with a baseline if no rival is given.
      hero: an entry.
      column: `steps` or `seconds`.
      rival: another entry; the baseline by default.

    Returns:
      a column for the entry, then one for the rival; infinite where a median misses the target.
    """
    columns = [hero, judged.baseline if rival is None else rival]
    medians = scoring.times_table(judged.cells, f"median_{column}")
    return medians.reindex(columns=columns).dropna()


def where_both_reach(medians: pd.DataFrame) -> tuple[int, float]:
    """On how many workloads both of `medians_of` are finite, and their mean ratio; NaN on none."""
    both = medians[np.isfinite(medians).all(axis=1)]
    ratios = np.log(both.iloc[:, 0] / both.iloc[:, 1])
    return len(both), float(np.exp(ratios.mean()))
