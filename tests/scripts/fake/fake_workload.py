"""A workload that trains in milliseconds: noisy linear regression with dropout on the inputs.

Under several ranks each takes its rows of the batch, as in the stand-in workloads.
"""

from typing import Any

import torch
from fake_facts import FACTS

from submission.algoperf_api import spec
from workloads import prng
from workloads.standin import replicas

FEATURES = 6


class Queue:
    def __init__(self, rng: Any, batch_size: int) -> None:
        self.rng, self.batch_size, self.position = rng, batch_size, 0
        self.rows = replicas.rows(batch_size)

    def __iter__(self) -> "Queue":
        return self

    def __next__(self) -> dict[str, torch.Tensor]:
        batch = table(prng.seed(prng.fold_in(self.rng, self.position)), self.batch_size)
        self.position += 1
        return {name: values[self.rows] for name, values in batch.items()}

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


def table(seed: int, rows: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, FEATURES, generator=generator)
    noise = torch.randn(rows, generator=generator)
    return {"inputs": inputs, "targets": inputs.sum(1) + 0.1 * noise, "weights": torch.ones(rows)}


class FakeWorkload:
    loss_type = spec.LossType.MEAN_SQUARED_ERROR
    eval_batch_size = 16
    model_params_types: dict[str, Any] = {}  # noqa: RUF012
    metrics_logger: Any = None

    def attach_metrics_logger(self, metrics_logger: Any) -> None:
        self.metrics_logger = metrics_logger

    def _build_input_queue(
        self, data_rng: Any, split: str, data_dir: str, global_batch_size: int
    ) -> Queue:
        return Queue(data_rng, global_batch_size)

    def init_model_fn(self, rng: Any) -> tuple[torch.nn.Module, None]:
        model = torch.nn.Linear(FEATURES, 1)
        torch.nn.init.normal_(model.weight, generator=torch.Generator().manual_seed(prng.seed(rng)))
        torch.nn.init.zeros_(model.bias)
        return replicas.replicate(model, lambda net: net(torch.zeros(1, FEATURES))), None

    def eval_model(self, batch_size: int, model: Any, *_: Any) -> dict[str, float]:
        result: dict[str, float] = {}
        for seed, split in enumerate(("train", "validation", "test")):
            batch = table(seed, 64)
            with torch.no_grad():
                errors = model(batch["inputs"])[:, 0] - batch["targets"]
            result[f"{split}/loss"] = (errors**2).mean().item()
        return result | {"validation/num_examples": 64, "test/num_examples": 64}

    def has_reached_validation_target(self, result: dict[str, float]) -> bool:
        return FACTS.meets(result["validation/loss"], FACTS.validation_target)

    def has_reached_test_target(self, result: dict[str, float]) -> bool:
        return FACTS.meets(result["test/loss"], FACTS.test_target)
