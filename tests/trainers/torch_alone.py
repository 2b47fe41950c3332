"""torch alone: its wrappers and its ways to save, on one process and on several."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from tests.submission.shampoo import ranks
from tests.submission.shampoo import test_consolidation as consolidation
from tests.trainers import problem
from tests.trainers.problem import Ends

STEPS, SAVED_AFTER = 30, 12


def ends(method: str, folder: Path, lost: bool = False) -> Ends:
    """Weights at the end of the uninterrupted run and of one resumed from `torch.save`'s file.

    Args:
      lost: whether the resumed run begins with the saved weights and an optimizer's new state.
    """
    model = problem.network()
    optimizer = problem.optimizer(model.parameters(), method)
    problem.trained(model, optimizer, range(SAVED_AFTER))
    torch.save((model.state_dict(), optimizer.state_dict()), folder / "saved.pt")
    whole = problem.trained(model, optimizer, range(SAVED_AFTER, STEPS))
    weights, state = torch.load(folder / "saved.pt", weights_only=True)
    model = problem.network()
    model.load_state_dict(weights)
    optimizer = problem.optimizer(model.parameters(), method)
    if not lost:
        optimizer.load_state_dict(state)
    return whole, problem.trained(model, optimizer, range(SAVED_AFTER, STEPS))


def _begun(rank: int, wrapper: str, method: str, folder: str) -> list[Tensor]:
    return consolidation.begun(wrapper, method, folder)


def _resumed(rank: int, wrapper: str, method: str, folder: str) -> list[Tensor]:
    return consolidation.resumed(wrapper, method, folder)


def consolidated(method: str, folder: Path, wrapper: str, world: int) -> Ends:
    """The same on several ranks, with the state brought to rank 0, which saves it."""
    begun, resumed = (
        ranks.run(world, function, wrapper, method, str(folder))[0]
        for function in (_begun, _resumed)
    )
    return begun, resumed


def by_checkpoint(method: str, folder: Path, wrapper: str, world: int, route: str) -> Ends:
    """The same by `torch.distributed.checkpoint`, with the options of `ROUTES[route]`."""
    arguments = (str(folder), (method,), (route,))
    begun = consolidation.launched(wrapper, world, consolidation.saved_by_torch, *arguments)[0]
    resumed = consolidation.launched(wrapper, world, consolidation.loaded_by_torch, *arguments)[0]
    return begun[method], resumed[method, route]


def _refused(rank: int, method: str) -> None:
    model = FullyShardedDataParallel(problem.network(), device_id=torch.device("cpu"))
    with pytest.raises(ValueError, match=r"use torch\.distributed\.fsdp\.fully_shard \(FSDP2\)"):
        problem.optimizer(model.parameters(), method)


def refused_under_fsdp1(method: str) -> None:
    """Fails unless the optimizer is refused with a line that names FSDP2."""
    ranks.run(2, _refused, method)


def exchanged(rank: int, exchange: bool) -> dict[str, list[Tensor]]:
    """Weights under FSDP2, by method, where the optimizer was built before sharding, or after it.

    accelerate exchanges the parameters of an optimizer for sharded ones before the first step; it
    does so on GPUs alone.
    """
    return {method: _exchanged(method, exchange) for method in problem.METHODS}


def _exchanged(method: str, exchange: bool) -> list[Tensor]:
    model = problem.network()
    optimizer = problem.optimizer(model.named_parameters(), method)
    fully_shard(model)
    if exchange:
        sharded = dict(model.named_parameters())
        for group in optimizer.param_groups:
            group["params"] = [sharded[name] for name in group["param_names"]]
    else:
        optimizer = problem.optimizer(model.named_parameters(), method)
    return problem.trained(model, optimizer, range(problem.BATCHES))
