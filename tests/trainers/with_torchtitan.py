"""torchtitan's container of optimizers, saved and loaded by torch.distributed.checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.optim import Optimizer
from torchtitan.components.optimizer import OptimizersContainer, ParamGroupConfig

from tests.trainers import problem
from tests.trainers.problem import Ends

STEPS, SAVED_AFTER = 30, 12


class Container(OptimizersContainer):
    """torchtitan's, which has one more optimizer to choose by name."""

    @staticmethod
    def _resolve_optimizer_factory(name: str) -> Callable[..., Optimizer]:
        assert name == "Shampoo"
        return lambda groups, **options: problem.optimizer(groups, groups[0]["method"], **options)


def built(method: str, sharded: bool) -> tuple[nn.Module, Container]:
    """The network and a container with two groups: weights decay, all else does not."""
    model = problem.network()
    if sharded:
        fully_shard(model)
    groups = [
        ParamGroupConfig(
            pattern=pattern,
            optimizer_name="Shampoo",
            optimizer_kwargs={"method": method, "weight_decay": decay},
        )
        for pattern, decay in ((r"[03]\.weight", 0.1), (".*", 0.0))
    ]
    # Of its implementations the one that passes foreach=True: there is no loop over blocks.
    config = Container.Config(param_groups=groups, implementation="foreach")
    return model, Container(config, model_parts=[model])


def state(model: nn.Module, optimizers: Container) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimizer": optimizers.state_dict()}


def ends(method: str, folder: Path, sharded: bool = False) -> Ends:
    """Weights at the end of the uninterrupted run and of the resumed one, under FSDP2 or alone."""
    saved = folder / "saved"
    model, optimizers = built(method, sharded)
    problem.trained(model, optimizers, range(SAVED_AFTER))
    dcp.save(state(model, optimizers), checkpoint_id=saved)
    whole = problem.trained(model, optimizers, range(SAVED_AFTER, STEPS))
    model, optimizers = built(method, sharded)
    target = state(model, optimizers)
    dcp.load(target, checkpoint_id=saved)
    model.load_state_dict(target["model"])
    optimizers.load_state_dict(target["optimizer"])
    return whole, problem.trained(model, optimizers, range(SAVED_AFTER, STEPS))
