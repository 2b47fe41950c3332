"""A trial's values of a target's metric by step: the best one, and the steps to a target.

>>> from workloads import registry
>>> facts = registry.facts("mnist_vit")
>>> curve = Curve(facts, ((5, 0.9), (10, math.nan), (15, 0.9), (20, 0.97)))
>>> curve.best(), curve.best(last_step=15), curve.steps_to(0.95), curve.steps_to(0.99)
((20, 0.97), (5, 0.9), 20, None)
"""

import dataclasses
import math
from collections.abc import Sequence

from scripts.local.metrics_log import Row
from workloads.facts import WorkloadFacts


@dataclasses.dataclass(frozen=True)
class Curve:
    """(step, value) of each evaluation, in their order."""

    facts: WorkloadFacts
    points: Sequence[tuple[int, float]] = ()

    @classmethod
    def of(cls, evaluations: Sequence[Row], facts: WorkloadFacts, split: str) -> "Curve":
        """The curve of one split in a trial's log."""
        name = f"{split}/{facts.metric}"
        return cls(facts, tuple((int(row["global_step"]), row[name]) for row in evaluations))

    def best(self, last_step: float = math.inf) -> tuple[int | None, float]:
        """The first evaluation with the best possible value; (None, NaN) if there is none."""
        facts = self.facts
        points = [(s, value) for s, value in self.points if s <= last_step]
        possible = [point for point in points if facts.is_possible(point[1])]
        return min(possible, key=lambda p: facts.sort_key(p[1]), default=(None, math.nan))

    def steps_to(self, target: float | None) -> int | None:
        """The step of the first evaluation that met a target, None if none did."""
        return next((step for step, value in self.points if self.facts.meets(value, target)), None)
