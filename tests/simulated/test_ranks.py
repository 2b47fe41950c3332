"""Work divided among gloo ranks, each with a pretended device of its own."""

import functools

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._dtensor_spec import DTensorSpec, TensorMeta

from submission.shampoo import DistributedConfig
from submission.shampoo.placement import local
from tests.simulated.device import simulated
from tests.simulated.runs import OPTION_SETS, SHAPES, difference, optimizer_of, start, steps
from tests.simulated.tensors import on_device, values_of
from tests.submission.shampoo import ranks

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
    """For each option set weights, waits and operators of one rank, and the names that it saves."""
    return [_steps_and_names(rank, name) for name in CHOSEN]


def _steps_and_names(rank, name):
    options = {**OPTION_SETS[name], "distributed": DistributedConfig(**CHOSEN[name])}
    with simulated() as record:
        optimizer, *results = _watched(record, options, on_device)
        optimizer.consolidate_state_dict(to=0)
        names = sorted(optimizer.state_dict()["state"][1]) if rank == 0 else []
        return *results, names


def _watched(record, options, on):
    """An optimizer after its steps, its rank's weights, the last two steps' waits and operators."""
    optimizer, parameters = optimizer_of(start(), options, on)
    steps(optimizer, parameters, SEEDS[:-2], on)
    record.clear()
    steps(optimizer, parameters, SEEDS[-2:], on)
    optimizer.finish()
    weights = [values_of(local(parameter)).clone() for parameter in parameters]
    return optimizer, weights, list(record.waits), set(record.names)


@pytest.mark.slow
def test_two_ranks_take_the_steps_of_one_cpu_and_never_wait():
    with simulated():
        pass  # skips where there can be no such device
    for name, *results in zip(CHOSEN, *ranks.run(WORLD, steps_on_rank), strict=True):
        optimizer, expected = optimizer_of(start(), {**OPTION_SETS[name], "distributed": None})
        steps(optimizer, expected, SEEDS)
        optimizer.finish()
        for weights, waits, names, _ in results:
            assert difference(weights, [parameter.detach() for parameter in expected]) <= 1e-6
            assert waits == []
            assert names & COLLECTIVES
        assert all(map(torch.equal, results[0][0], results[1][0]))
        assert results[0][3] == sorted(optimizer.state_dict()["state"][1])


def _shard(tensor, mesh, rank):
    """A rank's part of a tensor as under FSDP2, on the pretended device."""
    local = on_device(tensor.chunk(WORLD)[rank].clone())
    meta = TensorMeta(tensor.shape, tensor.stride(), tensor.dtype)
    # `from_local` would move it to the mesh's device.
    return DTensor(local, DTensorSpec(mesh, (Shard(0),), tensor_meta=meta), requires_grad=False)


def sharded_steps_on_rank(rank):
    """For each option set the shards of one rank, waits and operators."""
    on = functools.partial(_shard, mesh=init_device_mesh("cpu", (WORLD,)), rank=rank)
    with simulated() as record:
        return [_watched(record, OPTION_SETS[name], on)[1:] for name in OF_SHARDS]


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
