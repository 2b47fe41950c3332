"""Facts of a workload that are known without its data or its model."""

import dataclasses
import math
from typing import Literal

# The best value of each metric, by its direction.
_BEST = {
    "max": {"accuracy": 1.0, "ssim": 1.0, "mean_average_precision": 1.0, "bleu": 100.0},
    "min": {"loss": 0.0, "ppl": 1.0, "wer": 0.0},
}
_ROUNDING = 1e-3


@dataclasses.dataclass(frozen=True)
class WorkloadFacts:
    """One row of the registry.

    Attributes:
      name: the workload's name on the command line and in log folders.
      suite: `standin` (small, real data, runs here) or `official` (AlgoPerf's own).
      stands_in_for: the official workload that a stand-in imitates; empty for official ones.
      dataset: the source of the data.
      metric: the target's metric, without its split.
      direction: whether a larger (`max`) or a smaller (`min`) metric is better.
      step_hint: steps of the budget; targets are set with schedules of 0.75 times as many.
      eval_period_steps: steps between evaluations in the local runner; 0 for official workloads,
        which are evaluated by the clock.
      max_runtime_seconds: budget of submission time for one trial, under the external tuning
        ruleset where there are several.
      validation_target, test_target: metric values to reach, None while not set.
      version: the benchmark's version that the row belongs to; empty for stand-ins.
      base: the base workload that an official variant changes; empty for others.
      eval_period_seconds: submission time between evaluations in the official runner; 0 for
        stand-ins.
      self_tuning_max_runtime_seconds: the budget under the self-tuning ruleset; 0 for stand-ins.
    """

    name: str
    suite: Literal["standin", "official"]
    stands_in_for: str
    dataset: str
    metric: str
    direction: Literal["max", "min"]
    step_hint: int
    eval_period_steps: int
    max_runtime_seconds: int
    validation_target: float | None = None
    test_target: float | None = None
    version: str = ""
    base: str = ""
    eval_period_seconds: int = 0
    self_tuning_max_runtime_seconds: float = 0

    def meets(self, value: float, target: float | None) -> bool:
        """Whether `value` is possible and as good as `target`; a missing target is never met."""
        if target is None or not self.is_possible(value):
            return False
        return self.sort_key(value) <= self.sort_key(target)

    def is_possible(self, value: float) -> bool:
        """Whether `value` is finite and not better than the metric can be.

        >>> from workloads import registry
        >>> [registry.facts("flights_dlrm").is_possible(loss) for loss in (1.5, -1e308, math.inf)]
        [True, False, False]
        """
        return math.isfinite(value) and self.sort_key(value) >= self.best_sort_key

    @property
    def best_sort_key(self) -> float:
        """The least `sort_key` of a possible value, but for rounding."""
        best = _BEST[self.direction].get(self.metric)
        return -math.inf if best is None else self.sort_key(best) - _ROUNDING

    def sort_key(self, value: float) -> float:
        """A number that is smaller the better `value` is; NaN for NaN."""
        return -value if self.direction == "max" else value
