"""The PyTorch training step behind AlgoPerf's submission functions.

An entry names an optimizer and its numbers, and takes everything else from here. The functions'
signatures are the benchmark's (v0.6); `hyperparameters` is a namedtuple of one tuning point, or in
the self-tuning ruleset None, which an entry replaces by its own numbers (`with_hyperparameters`).
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import absl.flags
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .batch_sizes import get_batch_size, get_shampoo_batch_size
from .schedules import WarmupCosineLR

try:  # first, since the benchmark's own tests put another `workloads` package on the path
    from algoperf import spec
except ImportError:
    from workloads import spec

__all__ = [
    "consolidate",
    "data_selection",
    "get_batch_size",
    "get_shampoo_batch_size",
    "optimizer_state",
    "prepare_for_eval",
    "update_params",
    "with_hyperparameters",
]

# The benchmark's logger rewrites its whole file within the timed step.
_LOGGED_STEPS_PER_RUN = 40


def optimizer_state(
    workload: spec.Workload, optimizer: torch.optim.Optimizer, hyperparameters: Any
) -> dict[str, Any]:
    """What `init_optimizer_state` returns: the optimizer and its warm-up and cosine schedule.

    Reads from `hyperparameters`: `warmup_factor`; `step_hint_factor`, the schedule's length as a
    fraction of the workload's step hint (1 if absent); and `budget_factor`, the part of the
    external ruleset's time budget by which the schedule has ended even if machines are slower
    than the hint supposes (no bound if absent).
    """
    steps = int(getattr(hyperparameters, "step_hint_factor", 1.0) * workload.step_hint)
    budget = getattr(hyperparameters, "budget_factor", math.inf)
    # Not looked at where no bound is asked for: 0 times infinity would be no number.
    seconds = math.inf if math.isinf(budget) else budget * workload.max_allowed_runtime_sec
    scheduler = WarmupCosineLR(optimizer, steps, hyperparameters.warmup_factor, seconds)
    return {"optimizer": optimizer, "scheduler": scheduler}


def data_selection(
    workload: spec.Workload,
    input_queue: Iterator[dict[str, Any]],
    optimizer_state: dict[str, Any],
    current_param_container: nn.Module,
    model_state: Any,
    hyperparameters: Any,
    global_step: int,
    rng: Any,
) -> dict[str, Any]:
    """The next batch of the queue."""
    del workload, optimizer_state, current_param_container, model_state
    del hyperparameters, global_step, rng
    return next(input_queue)


def update_params(
    workload: spec.Workload,
    current_param_container: nn.Module,
    current_params_types: Any,
    model_state: Any,
    hyperparameters: Any,
    batch: dict[str, Any],
    loss_type: spec.LossType,
    optimizer_state: dict[str, Any],
    eval_results: list[tuple[int, Any]],
    global_step: int,
    rng: Any,
    train_state: Any = None,
) -> tuple[dict[str, Any], nn.Module, Any]:
    """One training step on one batch.

    Reads from `hyperparameters`, where present: `dropout_rate` (the workload's own default if
    absent), `label_smoothing` (0 if absent) and `grad_clip` (a bound of the global gradient
    norm; none if absent).

    Returns:
      `(optimizer_state, model, model_state)`.

    Raises:
      TrainingCompleteError: if the learning rate has come to 0: no later step moves a weight.
    """
    del current_params_types, loss_type, eval_results
    if all(group["lr"] == 0 for group in optimizer_state["optimizer"].param_groups):
        raise spec.TrainingCompleteError
    model = _with_averaged_gradients(current_param_container)
    model.train()
    _call_if_there(optimizer_state["optimizer"], "train")
    optimizer_state["optimizer"].zero_grad(set_to_none=True)

    dropout = (
        {"dropout_rate": hyperparameters.dropout_rate}
        if hasattr(hyperparameters, "dropout_rate")
        else {}
    )
    logits, model_state = workload.model_fn(
        params=model,
        augmented_and_preprocessed_input_batch=batch,
        model_state=model_state,
        mode=spec.ForwardPassMode.TRAIN,
        rng=rng,
        update_batch_norm=True,
        **dropout,
    )
    loss = _mean_loss(
        workload.loss_fn(
            label_batch=batch["targets"],
            logits_batch=logits,
            mask_batch=batch.get("weights"),
            label_smoothing=getattr(hyperparameters, "label_smoothing", 0.0),
        )
    )
    loss.backward()

    period = max(workload.step_hint // _LOGGED_STEPS_PER_RUN, 1)
    logged = global_step % period == 0  # on every rank, though one of them has the logger
    grad_clip = getattr(hyperparameters, "grad_clip", None)
    if grad_clip is not None or logged:
        max_norm = float("inf") if grad_clip is None else grad_clip
        grad_norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm=max_norm)
    optimizer_state["optimizer"].step()
    if train_state:  # whose seconds are the slowest rank's, on every rank
        optimizer_state["scheduler"].observe(train_state["accumulated_submission_time"])
    optimizer_state["scheduler"].step()
    if logged:
        metrics = {"loss": _mean_over_ranks(loss).item(), "grad_norm": grad_norm.item()}
        if workload.metrics_logger is not None:
            workload.metrics_logger.append_scalar_metrics(metrics, global_step)
    return optimizer_state, model, model_state


def with_hyperparameters(function: Callable[..., Any], point: Any) -> Callable[..., Any]:
    """`function` of the API, given `point` whatever `hyperparameters` it is called with.

    The signature, which the runner inspects, stays the same.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def given_point(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        given.arguments["hyperparameters"] = point
        return function(*given.args, **given.kwargs)

    return given_point


def _with_averaged_gradients(model: nn.Module) -> nn.Module:
    """The model, wrapped in DistributedDataParallel again where the runner has taken that away.

    It does on restoring a checkpoint: without it each rank would train on its own rows alone. A
    compiled model keeps its wrapper.
    """
    inner = getattr(model, "_orig_mod", model)
    if not _distributed() or isinstance(inner, DistributedDataParallel):
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def _mean_loss(loss: dict[str, Tensor]) -> Tensor:
    """A loss whose mean over the ranks is the mean over the global batch's valid examples.

    So is its gradient's, which DistributedDataParallel takes. Each rank may hold another number
    of valid examples.
    """
    return loss["summed"] / _mean_over_ranks(loss["n_valid_examples"])


def _mean_over_ranks(value: Tensor) -> Tensor:
    """Not differentiable; `value` itself without `torch.distributed`."""
    if not _distributed():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def prepare_for_eval(
    workload: spec.Workload,
    current_param_container: nn.Module,
    current_params_types: Any,
    model_state: Any,
    hyperparameters: Any,
    loss_type: spec.LossType,
    optimizer_state: dict[str, Any],
    eval_results: list[tuple[int, Any]],
    global_step: int,
    rng: Any,
) -> tuple[dict[str, Any], nn.Module, Any]:
    """Ends what runs beside training, and lets evaluation read averages where there are any.

    Nothing may run in the untimed evaluation; the next `update_params` puts the weights back.
    The runner may save a checkpoint after it, on rank 0 alone, so state is consolidated there,
    unless it was told to save none: this is on the clock.
    """
    del workload, current_params_types, hyperparameters, loss_type, eval_results, global_step, rng
    _call_if_there(optimizer_state["optimizer"], "finish")
    _call_if_there(optimizer_state["optimizer"], "eval")
    if _saves_checkpoints():
        consolidate(optimizer_state)
    return optimizer_state, current_param_container, model_state


def _saves_checkpoints() -> bool:
    """False where the official runner has `--nosave_checkpoints`, as in the organisers' runs."""
    flags = absl.flags.FLAGS
    return not flags.is_parsed() or "save_checkpoints" not in flags or flags.save_checkpoints


def consolidate(optimizer_state: dict[str, Any]) -> None:
    """Brings to rank 0 what other ranks hold of the state; its `state_dict` works then.

    A collective that every rank must join. Optimizers with the same state on all ranks, and those
    on one device, are left alone.
    """
    if _distributed():
        for part in optimizer_state.values():
            _call_if_there(part, "consolidate_state_dict", to=0)


def _call_if_there(part: Any, name: str, **arguments: Any) -> None:
    """Calls what optimizers with averages or work of their own have, and torch's have not."""
    method = getattr(part, name, None)
    if method is not None:
        method(**arguments)
