"""Adam without any of the options that the API leaves open."""

from typing import Any

import torch

from workloads.standin import replicas


def get_batch_size(workload_name: str) -> int:
    return 8


def init_optimizer_state(
    workload: Any, model_params: Any, model_state: Any, hyperparameters: Any, rng: Any
) -> dict[str, Any]:
    torch.rand(7)  # entries may draw any number of random values while they initialise
    return {
        "optimizer": torch.optim.Adam(model_params.parameters(), lr=hyperparameters.learning_rate)
    }


def data_selection(workload: Any, input_queue: Any, *_: Any) -> Any:
    return next(input_queue)


def update_params(
    workload: Any,
    current_param_container: Any,
    model_state: Any,
    batch: Any,
    optimizer_state: dict[str, Any],
    global_step: int,
    **unused: Any,
) -> tuple[Any, Any, Any]:
    assert "train_state" not in unused
    model, optimizer = current_param_container, optimizer_state["optimizer"]
    optimizer.zero_grad()
    inputs = replicas.dropout(batch["inputs"], 0.1, training=True)
    loss = ((model(inputs)[:, 0] - batch["targets"]) ** 2).mean()
    loss.backward()
    optimizer.step()
    if workload.metrics_logger is not None:
        workload.metrics_logger.append_scalar_metrics({"loss": loss.detach()}, global_step)
    return optimizer_state, model, model_state
