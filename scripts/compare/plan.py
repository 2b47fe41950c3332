"""What a comparison compares: optimizer variants under one set of settings.

A variants file holds the settings that all variants share and, by name, what each one is:

    {"settings": {"betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.01, "warmup_factor": 0.05,
                  "block_size": 1024, "refresh_interval": 10, "nesterov": false},
     "variants": {"default": {"optimizer": "ours_shampoo"},
                  "ungrafted": {"optimizer": "ours_shampoo", "options": {"grafting": null}}}}

`optimizer` is a name of `scripts.local.rivals`. `options` replace settings and, for ours, set any
option of `Shampoo`, with dtypes by name. A variant may name the `baseline` that it is measured
against, if that is not the comparison's, and its `schedule`: `cosine` to zero, or `constant` after
the warm-up.
"""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import files
from common.cli import UserError, near
from scripts.local.trial import Trial
from workloads import registry

SCHEDULES = ("cosine", "constant")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all variants share. No gradient clipping, no label smoothing, the default dropout.

    Attributes:
      betas, eps, weight_decay: as in AdamW; decay is decoupled.
      warmup_factor: part of the schedule spent warming up.
      block_size: longest edge of a block, or of a factor, where there is such a limit.
      refresh_interval: steps between inverse roots or eigenbases.
      nesterov: look-ahead of the first moment, where there is such an option.
    """

    betas: Sequence[float]
    eps: float
    weight_decay: float
    warmup_factor: float
    block_size: int
    refresh_interval: int
    nesterov: bool


@dataclasses.dataclass(frozen=True)
class Variant:
    """One optimizer with its options.

    Attributes:
      baseline: the variant that it is measured against, empty for the comparison's own.
      schedule: one of SCHEDULES; both warm up.
    """

    name: str
    optimizer: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    baseline: str = ""
    schedule: str = SCHEDULES[0]

    @property
    def changes(self) -> dict[str, Any]:
        """Its options, and its schedule where that is not the usual one."""
        usual = self.schedule == SCHEDULES[0]
        return dict(self.options) | ({} if usual else {"schedule": self.schedule})


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All that determines a comparison's trials.

    Attributes:
      baseline: the variant that others are measured against, unless they name another.
      learning_rates: the grid, in the order in which it is tried.
      seeds: repeats, the first of which chooses the learning rate.
      seed: base seed.
      budget_factor: steps of a trial, and of its schedule, as a fraction of the step hint.
    """

    settings: Settings
    variants: tuple[Variant, ...]
    baseline: str
    workloads: tuple[str, ...]
    learning_rates: tuple[float, ...]
    seeds: int
    seed: int
    budget_factor: float

    def options(self, variant: Variant) -> dict[str, Any]:
        """The settings that reach an optimizer, with the variant's options in place of its own."""
        settings = dataclasses.asdict(self.settings)
        del settings["warmup_factor"]
        return settings | dict(variant.options)

    def budget(self, workload: str) -> int:
        """Steps of a trial that nothing stops, as many as its schedule has."""
        return int(self.budget_factor * registry.facts(workload).step_hint)

    def trial(
        self, variant: Variant, workload: str, study: int, rate: float, max_steps: int
    ) -> Trial:
        """One trial; `max_steps` may end it before its schedule does."""
        point: dict[str, Any] = {
            "learning_rate": rate,
            "step_hint_factor": self.budget_factor,
            "warmup_factor": self.settings.warmup_factor,
            "optimizer": variant.optimizer,
            "options": self.options(variant),
        }
        # Points without the name are those of the logs before there was a choice.
        if variant.schedule != SCHEDULES[0]:
            point["schedule"] = variant.schedule
        return Trial(
            workload=workload,
            entry=variant.name,
            study=study,
            trial=self.learning_rates.index(rate) + 1,
            hyperparameters=point,
            seed=self.seed,
            max_steps=max_steps,
            search_space=f"variant {variant.name!r}",
        )


def read_variants(path: Path, only: Sequence[str] = ()) -> tuple[Settings, tuple[Variant, ...]]:
    """Settings and variants of a file, all or those named in `only`; UserError if malformed."""
    content = files.read_json(path)
    if not isinstance(content, dict) or set(content) != {"settings", "variants"}:
        raise UserError(f"{path}: must be an object of settings and variants")
    settings = _fields(Settings, content["settings"], f"{path}: settings")
    if not isinstance(content["variants"], dict) or not content["variants"]:
        raise UserError(f"{path}: variants must be an object of at least one variant")
    variants = tuple(
        _fields(Variant, {"name": name, **_object(value, path, name)}, f"{path}: {name}")
        for name, value in content["variants"].items()
    )
    known = {variant.name for variant in variants}
    for variant in variants:
        if variant.schedule not in SCHEDULES:
            allowed = f"{', '.join(SCHEDULES)}{near(SCHEDULES, str(variant.schedule))}"
            raise UserError(f"{path}: {variant.name}: schedule {variant.schedule!r}; {allowed}")
        if variant.baseline and variant.baseline not in known:
            raise UserError(f"{path}: {variant.name}: baseline {variant.baseline!r} is no variant")
    if missing := [name for name in only if name not in known]:
        listed = f"{path} has {', '.join(sorted(known))}{near(known, missing[0])}"
        raise UserError(f"unknown variant {missing[0]!r}; {listed}")
    return settings, tuple(variant for variant in variants if not only or variant.name in only)


def _object(value: Any, path: Path, name: str) -> dict[str, Any]:
    if not name or not name.replace("_", "").replace("-", "").isalnum():
        raise UserError(f"{path}: {name!r} cannot be a variant's name: letters, digits, _ and -")
    if not isinstance(value, dict) or not isinstance(value.get("options", {}), dict):
        raise UserError(f"{path}: {name} must be an object, and so must its options")
    return value


def _fields(kind: type, values: Any, where: str) -> Any:
    """`kind(**values)`; UserError naming a key that is missing or unknown."""
    if not isinstance(values, dict):
        raise UserError(f"{where}: must be an object")
    parameters = inspect.signature(kind).parameters
    if unknown := sorted(set(values) - set(parameters)):
        raise UserError(f"{where}: unknown key {unknown[0]!r}{near(parameters, unknown[0])}")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in values:
            raise UserError(f"{where}: lacks {name!r}")
    return kind(**values)
