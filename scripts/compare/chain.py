"""The trials of one variant on one workload, of which each depends on those before it.

First the learning rates, all with seed 0. A rate can be chosen only if it reaches the target in
fewer steps than those before it, so it gets no more steps than that. It is given up from the middle
of its steps on if it has not yet got as far as the leading rate had in half as many steps. Then the
other seeds at the chosen rate, in full.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from common import files
from common.cli import UserError
from scripts.compare.plan import Comparison, Variant
from scripts.local import trial as trials
from scripts.local.curve import Curve
from scripts.local.metrics_log import Row, read_evaluations
from scripts.local.trial import Trial
from workloads import registry
from workloads.facts import WorkloadFacts

FAILURE = "failure.json"
# A target is a median of the best values of other runs, so a good run may miss it by a hair and by
# luck; a value that is this much worse, relatively, is reached by all but the bad ones.
NEAR = 0.01


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a trial showed.

    Attributes:
      steps_to_target: the first evaluation that met the validation target, None if none did.
      steps_to_near: the first within `NEAR` of it.
      final, best: the last and the best validation value; NaN if there is none.
      steps: trained.
      milliseconds_per_step: of process CPU time on the submission's clock; NaN if unknown.
      failure: why the trial has no end; empty if it has.
      curve: the validation values; None if there is a failure.
    """

    trial: Trial
    steps_to_target: int | None = None
    steps_to_near: int | None = None
    final: float = math.nan
    best: float = math.nan
    steps: int = 0
    milliseconds_per_step: float = math.nan
    failure: str = ""
    curve: Curve | None = None

    @property
    def learning_rate(self) -> float:
        """The peak of the schedule."""
        return self.trial.hyperparameters["learning_rate"]


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a chain has come.

    Attributes:
      searched: outcomes of the learning rates that have been tried, in that order.
      chosen: outcomes at the chosen rate, by seed; empty before a rate is chosen.
      following: the first trial that has not run; None if all have.
    """

    searched: list[Outcome]
    chosen: list[Outcome]
    following: Trial | None

    def outcomes(self) -> list[Outcome]:
        """All outcomes, each once: the chosen rate's first seed is of the search."""
        return [*self.searched, *self.chosen[1:]]


@dataclasses.dataclass(frozen=True)
class Chain:
    """A variant on a workload.

    Attributes:
      logs: the folder of all trials.
      overwrite: whether a trial's folder is cleared if it holds files of other settings.
    """

    comparison: Comparison
    variant: Variant
    workload: str
    logs: Path
    overwrite: bool = False

    @property
    def name(self) -> str:
        """A short label for people."""
        return f"{self.variant.name} on {self.workload}"

    @property
    def log(self) -> Path:
        """Where the chain's process writes to."""
        return self.logs / self.variant.name / f"{self.workload}.txt"

    @property
    def facts(self) -> WorkloadFacts:
        """The workload's."""
        return registry.facts(self.workload)

    def progress(self) -> Progress:
        """What has run and what comes next. UserError as `outcome_of`."""
        comparison, searched = self.comparison, list[Outcome]()
        period, budget = self.facts.eval_period_steps, comparison.budget(self.workload)
        useful = budget
        for rate in comparison.learning_rates:
            if useful < 1:
                break
            trial = comparison.trial(self.variant, self.workload, 0, rate, useful)
            outcome = self._outcome(trial)
            if outcome is None:
                return Progress(searched, [], trial)
            searched.append(outcome)
            if outcome.steps_to_target is not None:
                # To the last evaluation before: one between two periods would tell the rates apart
                # by when they were looked at.
                useful = (outcome.steps_to_target - 1) // period * period
        best = choose(searched, self.facts)
        if best is None:
            return Progress(searched, [], None)
        chosen, missing = [best], list[Trial]()
        for study in range(1, comparison.seeds):
            trial = dataclasses.replace(best.trial, study=study, max_steps=budget)
            outcome = self._outcome(trial)
            if outcome is None:
                missing.append(trial)
            else:
                chosen.append(outcome)
        return Progress(searched, chosen, missing[0] if missing else None)

    def forget_failures(self) -> None:
        """Has failed trials run again."""
        for path in (self.logs / self.variant.name).glob(f"study_*/{self.workload}_*/*/{FAILURE}"):
            path.unlink()

    def _outcome(self, trial: Trial) -> Outcome | None:
        directory = trial.directory(self.logs)
        if self.overwrite and directory.exists():
            try:
                trials.check_same(trial, directory)
            except UserError:
                trials.clear(directory)
        return outcome_of(trial, self.logs)


def choose(outcomes: Sequence[Outcome], facts: WorkloadFacts) -> Outcome | None:
    """The outcome with fewest steps to the target, else with the best final validation value.

    Of equal ones the first; None if none has a finite value.
    """
    reached = [outcome for outcome in outcomes if outcome.steps_to_target is not None]
    if reached:
        return min(reached, key=lambda outcome: outcome.steps_to_target or 0)
    possible = [outcome for outcome in outcomes if facts.is_possible(outcome.final)]
    return min(possible, key=lambda outcome: facts.sort_key(outcome.final), default=None)


def is_hopeless(trial: Trial, curve: Curve, leader: Outcome | None) -> bool:
    """Whether a trial with these evaluations so far is to be given up.

    So it is if it is of the search, has done half of its steps, and its best value is worse than
    the leading rate's best value in the first half of as many steps.
    """
    step = curve.points[-1][0] if curve.points else 0
    if leader is None or leader.curve is None or trial.study > 0:
        return False
    if 2 * step < (trial.max_steps or 0):
        return False
    _, target = leader.curve.best(last_step=step / 2)
    return math.isfinite(target) and not curve.facts.meets(curve.best()[1], target)


def outcome_of(trial: Trial, logs: Path) -> Outcome | None:
    """What the trial showed, None if it has not ended.

    UserError if its folder holds another trial or a damaged log.
    """
    directory = trial.directory(logs)
    if (directory / FAILURE).exists():
        record = files.read_json(directory / FAILURE)
        if not isinstance(record, dict) or "failure" not in record:
            raise UserError(f"{directory / FAILURE} names no failure; delete it to run the trial")
        return Outcome(trial, failure=str(record["failure"]))
    if trials.finished(trial, directory) is None:
        return None
    facts = registry.facts(trial.workload)
    metric, seconds = f"validation/{facts.metric}", "accumulated_submission_cpu_time"
    evaluations = read_evaluations(directory, [metric, seconds])
    curve = Curve.of(evaluations, facts, "validation")
    last_step, final = curve.points[-1]
    return Outcome(
        trial,
        steps_to_target=curve.steps_to(facts.validation_target),
        steps_to_near=curve.steps_to(near(facts.validation_target, facts)),
        final=final,
        best=curve.best()[1],
        steps=last_step,
        milliseconds_per_step=1e3 * _seconds_per_step(evaluations, seconds),
        curve=curve,
    )


def near(target: float | None, facts: WorkloadFacts) -> float | None:
    """A value a little worse than the target."""
    if target is None:
        return None
    return target - NEAR * abs(target) if facts.direction == "max" else target + NEAR * abs(target)


def _seconds_per_step(evaluations: Sequence[Row], column: str) -> float:
    """Without the steps before the first evaluation, in which libraries warm up."""
    first, last = evaluations[0], evaluations[-1]
    if len(evaluations) == 1:
        return last[column] / last["global_step"]
    return (last[column] - first[column]) / (last["global_step"] - first["global_step"])
