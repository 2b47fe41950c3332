"""Work divided among gloo ranks, each with a pretended device of its own."""

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._dtensor_spec import DTensorSpec, TensorMeta

from submission.shampoo import DistributedConfig, Shampoo
from tests.simulated.device import simulated
from tests.simulated.runs import (
    OPTION_SETS,
    SHAPES,
    difference,
    gradients,
    optimizer_of,
    start,
    steps,
)
from tests.simulated.tensors import on_device, values_of
from tests.submission.shampoo import ranks
from tests.submission.shampoo.streams import OPTIONS

CHOSEN = {
    "shampoo": {},
    "soap, cholesky_qr": {"buckets": 1},
    "adagrad": {"communicate": "parameters"},
}
# From the second on all parameters have gradients: which first bases are taken together, and by
# which solver, depends on the division.
SEEDS = range(1, 6)
COLLECTIVES = {"allreduce_", "_allgather_base_"}
WORLD = 2
OF_SHARDS = ("shampoo", "soap, cholesky_qr", "kl_shampoo", "sgd, momentum", "ema", "schedule_free")


def steps_on_rank(rank):
    """For each option set `_steps`."""
    return [_steps(rank, name) for name in CHOSEN]


def _steps(rank, name):
    """Weights of one rank, the waits of its last two steps, and the names of what it saves."""
    options = {**OPTION_SETS[name], "distributed": DistributedConfig(**CHOSEN[name])}
    with simulated() as record:
        optimizer, parameters = optimizer_of(start(), options, on_device)
        steps(optimizer, parameters, SEEDS[:-2], on_device)
        record.clear()
        steps(optimizer, parameters, SEEDS[-2:], on_device)
        optimizer.finish()
        waits, collectives = list(record.waits), record.names & COLLECTIVES
        optimizer.consolidate_state_dict(to=0)
        names = sorted(optimizer.state_dict()["state"][1]) if rank == 0 else []
        return [values_of(parameter).clone() for parameter in parameters], waits, collectives, names


@pytest.mark.slow
def test_two_ranks_take_the_steps_of_one_cpu_and_never_wait():
    with simulated():
        pass  # skips where there can be no such device
    for name, *results in zip(CHOSEN, *ranks.run(WORLD, steps_on_rank), strict=True):
        optimizer, expected = optimizer_of(start(), {**OPTION_SETS[name], "distributed": None})
        steps(optimizer, expected, SEEDS)
        optimizer.finish()
        for weights, waits, collectives, _ in results:
            assert difference(weights, [parameter.detach() for parameter in expected]) <= 1e-6
            assert waits == []
            assert collectives
        assert all(map(torch.equal, results[0][0], results[1][0]))
        assert results[0][3] == sorted(optimizer.state_dict()["state"][1])


def _shard(tensor, mesh, rank):
    """A rank's part of a tensor as under FSDP2, on the pretended device."""
    local = on_device(tensor.chunk(WORLD)[rank].clone())
    meta = TensorMeta(tensor.shape, tensor.stride(), tensor.dtype)
    # `from_local` would move it to the mesh's device.
    return DTensor(local, DTensorSpec(mesh, (Shard(0),), tensor_meta=meta), requires_grad=False)


def sharded_steps_on_rank(rank):
    """For each option set the shards of one rank, the waits and the operators of two steps."""
    mesh = init_device_mesh("cpu", (WORLD,))
    return [_sharded_steps(rank, mesh, OPTION_SETS[name]) for name in OF_SHARDS]


def _sharded_steps(rank, mesh, options):
    with simulated() as record:
        parameters = [torch.nn.Parameter(_shard(weight, mesh, rank)) for weight in start()]
        optimizer = Shampoo(parameters, **{**OPTIONS, **options})
        for seed in SEEDS:
            if seed == SEEDS[-2]:
                record.clear()
            for parameter, grad in zip(parameters, gradients(seed), strict=True):
                parameter.grad = None if grad is None else _shard(grad, mesh, rank)
            optimizer.step()
        waits, names = list(record.waits), set(record.names)
        optimizer.finish()
        return [values_of(parameter.to_local()).clone() for parameter in parameters], waits, names


@pytest.mark.slow
def test_two_ranks_with_shards_take_the_steps_of_one_cpu_and_never_wait():
    with simulated():
        pass  # skips where there can be no such device
    for name, *results in zip(OF_SHARDS, *ranks.run(WORLD, sharded_steps_on_rank), strict=True):
        optimizer, expected = optimizer_of(start(), OPTION_SETS[name])
        steps(optimizer, expected, SEEDS)
        optimizer.finish()
        for _, waits, names in results:
            assert waits == []
            assert "alltoall_base_" in names
        weights = [torch.cat([shards[i] for shards, *_ in results]) for i in range(len(SHAPES))]
        assert difference(weights, [parameter.detach() for parameter in expected]) <= 1e-6
