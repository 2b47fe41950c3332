"""The official workloads' rows, per version of the benchmark.

All facts are in `facts.json` and `datasets.json` beside this file, with their sources. A version of
the benchmark is an object in `facts.json`, in the order of their age.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from common import files
from workloads.facts import WorkloadFacts
from workloads.official import datasets
from workloads.official.datasets import DataSet
from workloads.rows import row


@dataclasses.dataclass(frozen=True)
class Model:
    """A model and how it is trained.

    Attributes:
      title: its name in prose.
      loss: as named by `spec.LossType`.
      parameters, tensors: counts of the PyTorch model.
      dropout_rate: the default of `model_fn`, for submissions that give none; None where the model
        has no dropout, whatever is given.
      smooths_labels: whether `loss_fn` uses `label_smoothing`; the others ignore it.
      batch_size: global training batch size of the benchmark's baselines.
      eval_batch_size: global batch size of evaluations under PyTorch.
    """

    title: str
    loss: str
    parameters: int
    tensors: int
    dropout_rate: float | None
    smooths_labels: bool
    batch_size: int
    eval_batch_size: int


@dataclasses.dataclass(frozen=True)
class Version:
    """The rules of one version of the benchmark.

    Attributes:
      gpus, gpu, gpu_gb: the hardware that budgets are for, and the memory of one GPU.
      memory_gb, cores: of the whole machine; None where no source gives the cores.
      torch, torchvision: their releases.
      studies: repeats per workload, over which the median is taken.
      self_tuning_factor: budget of a self-tuning run over that of an externally tuned one.
      base_workloads: over which the score is averaged.
      held_out: by base workload, the variants that must be reached for the base to count.
    """

    gpus: int
    gpu: str
    gpu_gb: int
    memory_gb: int
    cores: int | None
    torch: str
    torchvision: str
    studies: int
    self_tuning_factor: float
    base_workloads: tuple[str, ...]
    held_out: Mapping[str, list[str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfficialFacts(WorkloadFacts):
    """The facts of an official workload under one version of the benchmark.

    Attributes:
      data: the data set, with its size on disk.
      model: the model, with its size, dropout and batch sizes.
      sources: sources of the figures, and contradictions between them.
    """

    data: DataSet
    model: Model
    sources: tuple[str, ...]

    @property
    def base_name(self) -> str:
        """The workload's own name for a base workload, its base's for a variant."""
        return self.base or self.name


def _row(
    name: str, version: str, layers: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> OfficialFacts:
    """A workload's facts from layers of the file, each of which replaces facts of those before."""
    values = {key: value for layer in layers for key, value in layer.items()}
    data = datasets.DATASETS[values["dataset"]]
    model = {key: value for layer in layers for key, value in layer.get("model", {}).items()}
    factor, seconds = RULES[version].self_tuning_factor, values["max_runtime_seconds"]
    return row(
        OfficialFacts,
        {key: value for key, value in values.items() if key not in ("variants", "notes")}
        | {
            "name": name,
            "suite": "official",
            "stands_in_for": "",
            "dataset": data.title,
            "eval_period_steps": 0,
            "version": version,
            "self_tuning_max_runtime_seconds": factor * seconds,
            "data": data,
            "model": row(Model, model, f"{name}, model"),
            "sources": (*SOURCES[version], *notes),
        },
        f"{name} in {version}",
    )


def _rows(version: str) -> Mapping[str, OfficialFacts]:
    """All workloads of a version: a variant has its base's budget, and all that it does not set."""
    budgets, rows = _CONTENT["versions"][version]["workloads"], {}
    for base, shared in _CONTENT["workloads"].items():
        if base not in budgets:
            continue
        for name, change in {base: {}, **shared.get("variants", {})}.items():
            variant = change | {"base": base} if name != base else {}
            layers = (shared, budgets[base], variant, budgets.get(name, {}))
            rows[name] = _row(name, version, layers, (variant or shared).get("notes", ()))
    return MappingProxyType(rows)


_CONTENT = files.read_json(Path(__file__).with_name("facts.json"))
_SHARED = _CONTENT["sources"]
SOURCES: Mapping[str, tuple[str, ...]] = {
    version: (_SHARED["targets"], rules["source"], datasets.SOURCE, _SHARED["model"])
    for version, rules in _CONTENT["versions"].items()
}
RULES: Mapping[str, Version] = MappingProxyType(
    {
        name: row(Version, {key: value for key, value in rules.items() if key != "workloads"}, name)
        for name, rules in _CONTENT["versions"].items()
    }
)
OFFICIAL: Mapping[str, Mapping[str, OfficialFacts]] = MappingProxyType(
    {version: _rows(version) for version in RULES}
)
VERSIONS = tuple(OFFICIAL)
NEWEST = VERSIONS[-1]
