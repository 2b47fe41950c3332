"""Momentum SGD that logs its loss each step, and misbehaves where the environment says so.

Of several ranks the one misbehaves that FAKE_RANK says, the first by default.
"""

import os
import signal
import time
from typing import Any

import torch

from submission.algoperf_api import spec
from workloads.standin import replicas


def get_batch_size(workload_name: str) -> int:
    return 8


def init_optimizer_state(
    workload: Any, model_params: Any, model_state: Any, hyperparameters: Any, rng: Any
) -> dict[str, Any]:
    optimizer = torch.optim.SGD(
        model_params.parameters(), lr=hyperparameters.learning_rate, momentum=0.9
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 24)
    return {"optimizer": optimizer, "scheduler": scheduler}


def data_selection(workload: Any, input_queue: Any, *_: Any) -> Any:
    return next(input_queue)


def update_params(
    workload: Any,
    current_param_container: Any,
    model_state: Any,
    hyperparameters: Any,
    batch: Any,
    optimizer_state: dict[str, Any],
    global_step: int,
    train_state: Any = None,
    **_: Any,
) -> tuple[Any, Any, Any]:
    _misbehave(global_step)
    model, optimizer = current_param_container, optimizer_state["optimizer"]
    optimizer.zero_grad()
    inputs = replicas.dropout(batch["inputs"], 0.1, training=True)
    loss = ((model(inputs)[:, 0] - batch["targets"]) ** 2).mean()
    loss.backward()
    optimizer.step()
    if "scheduler" in optimizer_state:
        optimizer_state["scheduler"].step()
    if workload.metrics_logger is not None:
        workload.metrics_logger.append_scalar_metrics({"loss": loss.detach()}, global_step)
    return optimizer_state, model, model_state


def prepare_for_eval(
    current_param_container: Any, model_state: Any, optimizer_state: Any, **_: Any
) -> tuple[Any, Any, Any]:
    time.sleep(float(os.environ.get("FAKE_PREPARE_SECONDS", "0")))
    return optimizer_state, current_param_container, model_state


def _misbehave(global_step: int) -> None:
    def at(name: str) -> bool:
        return os.environ.get(name) == str(global_step)

    time.sleep(float(os.environ.get("FAKE_STEP_SECONDS", "0")))
    if replicas.rank() != int(os.environ.get("FAKE_RANK", "0")):
        return
    if at("FAKE_KILL_AT"):
        os.kill(os.getpid(), signal.SIGKILL)
    if at("FAKE_HANG_AT"):
        os.kill(os.getpid(), signal.SIGSTOP)
    if at("FAKE_TERMINATE_AT"):
        os.kill(os.getpid(), signal.SIGTERM)
    if at("FAKE_CRASH_AT"):
        raise RuntimeError("the optimizer crashed")
    if at("FAKE_COMPLETE_AT"):
        raise spec.TrainingCompleteError
