"""The PyTorch training step behind AlgoPerf's submission functions.

An entry makes an optimizer and takes the functions of the API from here. Their signatures are the
benchmark's (v0.6). `hyperparameters` is a namedtuple of one tuning point, or in the self-tuning
ruleset None, which an entry replaces by numbers of its own (`with_hyperparameters`).
"""

from collections.abc import Callable
from typing import Any

import absl.flags
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from . import spec
from .batch_sizes import get_batch_size as get_batch_size
from .batch_sizes import get_shampoo_batch_size as get_shampoo_batch_size
from .functions import data_selection as data_selection
from .functions import is_logged
from .functions import with_hyperparameters as with_hyperparameters
from .pytorch_schedules import WarmupCosineLR
from .schedules import lengths


def initializer(
    make_optimizer: Callable[..., torch.optim.Optimizer],
    latest_batch: Callable[[], Any] | None = None,
) -> Callable[..., Any]:
    """The `init_optimizer_state` of an entry.

    Args:
      make_optimizer: called with the model's parameters and the hyperparameters.
      latest_batch: see `optimizer_state`.
    """

    def init_optimizer_state(
        workload: Any, model_params: Any, model_state: Any, hyperparameters: Any, rng: Any
    ) -> dict[str, Any]:
        """The entry's optimizer and its schedule, as `optimizer_state` returns them."""
        optimizer = make_optimizer(model_params.parameters(), hyperparameters)
        return optimizer_state(workload, optimizer, hyperparameters, latest_batch)

    return init_optimizer_state


def adam_arguments(hyperparameters: Any) -> dict[str, Any]:
    """`lr`, `betas` and `weight_decay`, as torch calls them, of a tuning point."""
    return {
        "lr": hyperparameters.learning_rate,
        "betas": (1 - hyperparameters.one_minus_beta1, 1 - hyperparameters.one_minus_beta2),
        "weight_decay": hyperparameters.weight_decay,
    }


def optimizer_state(
    workload: spec.Workload,
    optimizer: torch.optim.Optimizer,
    hyperparameters: Any,
    latest_batch: Callable[[], Any] | None = None,
) -> dict[str, Any]:
    """An optimizer and its warm-up and cosine schedule, under "optimizer" and "scheduler".

    With an optimizer that averages its iterates also what `latest_batch` makes, under "latest".
    Reads from `hyperparameters` what `schedules.lengths` reads.

    Args:
      latest_batch: `statistics.LatestBatch`; entries whose optimizer never averages need none, and
        their packages none of its code.

    Raises:
      ValueError: if the optimizer averages and `latest_batch` is missing.
    """
    scheduler = WarmupCosineLR(optimizer, *lengths(workload, hyperparameters))
    state = {"optimizer": optimizer, "scheduler": scheduler}
    averages = any(group.get("averaging") for group in optimizer.param_groups)
    if not averages:
        return state
    if latest_batch is None:
        raise ValueError(
            "latest_batch must be statistics.LatestBatch for an optimizer that averages its "
            "iterates, got None: batch normalisation needs statistics of the averages."
        )
    return state | {"latest": latest_batch()}


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

    Reads from `hyperparameters`, where present and not None: `dropout_rate` (else the workload's
    own default), `label_smoothing` (else 0) and `grad_clip` (a bound of the global gradient norm;
    else none).

    Returns:
      `(optimizer_state, model, model_state)`.

    Raises:
      TrainingCompleteError: if the learning rate has reached 0: no later step moves a weight.
    """
    if all(group["lr"] == 0 for group in optimizer_state["optimizer"].param_groups):
        raise spec.TrainingCompleteError
    model = _with_averaged_gradients(current_param_container)
    model.train()
    _call_if_present(optimizer_state["optimizer"], "train")
    optimizer_state["optimizer"].zero_grad(set_to_none=True)

    logits, model_state = _forward(workload, model, batch, model_state, hyperparameters, rng)
    if "latest" in optimizer_state:
        optimizer_state["latest"].batch = batch
    losses = workload.loss_fn(
        label_batch=batch["targets"],
        logits_batch=logits,
        mask_batch=batch.get("weights"),
        label_smoothing=getattr(hyperparameters, "label_smoothing", None) or 0.0,
    )
    # Ranks may differ in their numbers of valid examples. The mean of this loss over the ranks is
    # that over all valid examples; so are the gradients, which DistributedDataParallel averages.
    loss = losses["summed"] / _mean_over_ranks(losses["n_valid_examples"])
    loss.backward()

    logged = is_logged(workload, global_step)  # on every rank: the mean loss is a collective
    grad_clip = getattr(hyperparameters, "grad_clip", None)
    if grad_clip is not None or logged:
        max_norm = float("inf") if grad_clip is None else grad_clip
        grad_norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm=max_norm)
    optimizer_state["optimizer"].step()
    if train_state:  # its seconds are the slowest rank's, on every rank
        spent = train_state["accumulated_submission_time"]
        _call_if_present(optimizer_state["scheduler"], "observe", seconds=spent)
    optimizer_state["scheduler"].step()
    if logged:
        metrics = {"loss": _mean_over_ranks(loss).item(), "grad_norm": grad_norm.item()}
        if workload.metrics_logger is not None:
            workload.metrics_logger.append_scalar_metrics(metrics, global_step)
    return optimizer_state, model, model_state


def _forward(
    workload: Any, model: nn.Module, batch: Any, model_state: Any, hyperparameters: Any, rng: Any
) -> tuple[Tensor, Any]:
    """Logits in training, which update statistics of batch normalisation, and the new state."""
    dropout = {}
    if (rate := getattr(hyperparameters, "dropout_rate", None)) is not None:
        dropout["dropout_rate"] = rate
    # By position: workloads of the benchmark do not all call the batch by one name.
    logits, model_state = workload.model_fn(
        model,
        batch,
        model_state,
        spec.ForwardPassMode.TRAIN,
        rng,
        update_batch_norm=True,
        **dropout,
    )
    return logits, model_state


def _with_averaged_gradients(model: nn.Module) -> nn.Module:
    """The model, wrapped in DistributedDataParallel again if the runner has unwrapped it.

    The runner does so on restoring a checkpoint; each rank would then train on its rows alone. A
    compiled model keeps its wrapper.
    """
    inner = getattr(model, "_orig_mod", model)
    if not _distributed() or isinstance(inner, DistributedDataParallel):
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=None if device.type == "cpu" else [device])


def _mean_over_ranks(value: Tensor) -> Tensor:
    """The mean, not differentiable; `value` itself without `torch.distributed`."""
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
    """Waits for the optimizer's side work and puts averages, if it keeps any, into the model.

    Running statistics of batch normalisation become those of the averages on the latest batch; the
    rules let a submission change model state here, and time it. Nothing may run beside the untimed
    evaluation. The next `update_params` restores the weights; statistics take no part in training.
    The runner saves a checkpoint after the evaluation, on rank 0 alone, so all state is brought to
    rank 0 first; not if the runner saves none, because this is on the clock.
    """
    _call_if_present(optimizer_state["optimizer"], "finish")
    _call_if_present(optimizer_state["optimizer"], "eval")
    if "latest" in optimizer_state:
        model = current_param_container
        optimizer_state["latest"].update_statistics(
            model,
            lambda batch: _forward(workload, model, batch, model_state, hyperparameters, rng),
            _mean_over_ranks,
        )
    # `--nosave_checkpoints`, as in the organisers' runs, is a flag of the official runner alone.
    flags = absl.flags.FLAGS
    if not flags.is_parsed() or "save_checkpoints" not in flags or flags.save_checkpoints:
        consolidate(optimizer_state)
    return optimizer_state, current_param_container, model_state


def consolidate(optimizer_state: dict[str, Any]) -> None:
    """Brings state that other ranks own to rank 0, so that `state_dict` works there.

    A collective that every rank must join. Nothing happens to optimizers that have the same state
    on all ranks, or without `torch.distributed`.
    """
    if _distributed():
        for part in optimizer_state.values():
            _call_if_present(part, "consolidate_state_dict", to=0)


def _call_if_present(part: Any, name: str, **arguments: Any) -> None:
    """Calls an optional method, which torch's optimizers or schedules lack."""
    method = getattr(part, name, None)
    if method is not None:
        method(**arguments)
