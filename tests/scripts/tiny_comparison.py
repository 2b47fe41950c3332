"""A comparison that trains in milliseconds, and files of trials that never ran."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from scripts.compare.chain import Chain
from scripts.compare.plan import Comparison, Settings, Variant
from scripts.local.trial import Trial
from submission.algoperf_api import spec
from workloads import registry
from workloads.facts import WorkloadFacts
from workloads.standin.base import StandinWorkload
from workloads.standin.batches import Batch, Table

Write = Callable[[str, Any], Path]
WORKLOAD = "mnist_vit"  # its name and batch size, with the tiny workload below behind them
TINY = WorkloadFacts(
    name=WORKLOAD,
    suite="standin",
    stands_in_for="nothing",
    dataset="random numbers",
    metric="loss",
    direction="min",
    step_hint=40,
    eval_period_steps=5,
    max_runtime_seconds=60,
    validation_target=0.45,
    test_target=0.0,
)
SETTINGS = Settings([0.9, 0.99], 1e-8, 0.01, 0.1, 64, 5, False)
GOOD = {"settings": dataclasses.asdict(SETTINGS), "variants": {"a": {"optimizer": "adamw"}}}


class TinyModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: torch.Tensor, dropout_rate: float = 0.0) -> torch.Tensor:
        logits: torch.Tensor = self.head(inputs)
        return logits


class TinyWorkload(StandinWorkload):
    """Three linearly separable classes."""

    name: ClassVar[str] = WORKLOAD

    @property
    def facts(self) -> WorkloadFacts:
        return registry.facts(WORKLOAD)

    @property
    def loss_type(self) -> spec.LossType:
        return spec.LossType.SOFTMAX_CROSS_ENTROPY

    @property
    def eval_batch_size(self) -> int:
        return 128

    def load_tables(self) -> dict[str, Table]:
        generator = torch.Generator().manual_seed(0)
        classes = torch.randn(6, 3, generator=generator)
        tables = {}
        for split in ("train", "validation", "test"):
            inputs = torch.randn(128, 6, generator=generator)
            tables[split] = {"inputs": inputs, "targets": (inputs @ classes).argmax(1)}
        return tables

    def build_model(self) -> nn.Module:
        return TinyModel()

    def summed_metrics(self, logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": self.loss_fn(batch["targets"], logits, batch["weights"])["summed"]}


def comparison(*variants: Variant, **changes: Any) -> Comparison:
    variants = variants or (Variant("adamw", "adamw"),)
    values: dict[str, Any] = {
        "settings": SETTINGS,
        "variants": variants,
        "baseline": variants[0].name,
        "workloads": (WORKLOAD,),
        "learning_rates": (0.1, 0.01, 1.0),
        "seeds": 3,
        "seed": 0,
        "budget_factor": 1.0,
    }
    return Comparison(**(values | changes))


def chain_of(folder: Path, variant: Variant | None = None, **changes: Any) -> Chain:
    variant = variant or Variant("adamw", "adamw")
    return Chain(comparison(variant, **changes), variant, WORKLOAD, folder)


def write_files(folder: Path, trial: Trial) -> None:
    """Writes what says of a trial that it has finished."""
    status = {"status": "complete", "reason": "steps", "global_step": 1}
    status["accumulated_submission_time"] = 1.0
    content = {"hparams": dict(trial.hyperparameters), "flags_0": trial.settings()}
    folder.mkdir(parents=True)
    for name, values in (content | {"status": status}).items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    (folder / "eval_measurements.csv").write_text("global_step,score\n1,1.0\n")


def pretend(chain: Chain, trial: Trial, curve: dict[int, float]) -> None:
    """Writes the files of a finished trial with these validation losses by step."""
    folder = trial.directory(chain.logs)
    write_files(folder, trial)
    rows = [f"{step},{step},{step / 100},{value}" for step, value in curve.items()]
    header = "global_step,score,accumulated_submission_cpu_time,validation/loss"
    (folder / "eval_measurements.csv").write_text("\n".join([header, *rows, ""]))


def following(chain: Chain) -> Trial:
    trial = chain.progress().following
    assert trial is not None
    return trial


def rate_of(trial: Trial) -> float:
    return trial.hyperparameters["learning_rate"]
