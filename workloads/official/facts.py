"""The official workloads' rows, put together from targets, budgets, data sets and models."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from workloads.facts import WorkloadFacts
from workloads.official import budgets, datasets, models, targets
from workloads.official.datasets import DataSet
from workloads.official.models import Model


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfficialFacts(WorkloadFacts):
    """What is known of an official workload under one version of the benchmark.

    Attributes:
      data: the data set, with its size on disk.
      model: the model, with its size, dropout and batch sizes.
      sources: where the figures are from, and where sources contradict each other.
    """

    data: DataSet
    model: Model
    sources: tuple[str, ...]

    @property
    def base_name(self) -> str:
        """The workload's own name for a base workload, its base's for a variant."""
        return self.base or self.name


def _row(name: str, version: str) -> OfficialFacts:
    target = targets.TARGETS[name]
    base = target.base or name
    budget, data = budgets.BUDGETS[version][base], datasets.DATASETS[base]
    notes = (part.NOTES.get(name) for part in (targets, budgets, datasets, models))
    return OfficialFacts(
        name=name,
        suite="official",
        stands_in_for="",
        dataset=data.title,
        metric=target.metric,
        direction=target.direction,
        step_hint=budget.step_hint,
        eval_period_steps=0,
        max_runtime_seconds=budget.max_runtime_seconds,
        validation_target=target.validation,
        test_target=target.test,
        version=version,
        base=target.base,
        eval_period_seconds=budget.eval_period_seconds,
        self_tuning_max_runtime_seconds=(
            budgets.SELF_TUNING_FACTORS[version] * budget.max_runtime_seconds
        ),
        data=data,
        model=models.MODELS[name],
        sources=(
            targets.SOURCE,
            budgets.SOURCES[version],
            datasets.SOURCE,
            models.SOURCE,
            *filter(None, notes),
        ),
    )


def _rows(version: str) -> Mapping[str, OfficialFacts]:
    known = budgets.BUDGETS[version]
    return MappingProxyType(
        {
            name: _row(name, version)
            for name, target in targets.TARGETS.items()
            if (target.base or name) in known
        }
    )


OFFICIAL: Mapping[str, Mapping[str, OfficialFacts]] = MappingProxyType(
    {version: _rows(version) for version in budgets.BUDGETS}
)
VERSIONS = tuple(OFFICIAL)
NEWEST = VERSIONS[-1]
