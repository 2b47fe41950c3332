"""Work divided among gloo ranks, each with a pretended device of its own."""

import pytest
import torch

from submission.shampoo import DistributedConfig
from tests.simulated.device import simulated
from tests.simulated.runs import OPTION_SETS, difference, optimizer_of, start, steps
from tests.simulated.tensors import on_device, values_of
from tests.submission.shampoo import ranks

CHOSEN = {
    "shampoo": {},
    "soap, cholesky_qr": {"buckets": 1},
    "adagrad, layer": {"communicate": "parameters"},
}
# From the second on all parameters have gradients: which first bases are taken together, and by
# which solver, depends on the division.
SEEDS = range(1, 6)
COLLECTIVES = {"allreduce_", "_allgather_base_"}


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
    for name, *results in zip(CHOSEN, *ranks.run(2, steps_on_rank), strict=True):
        optimizer, expected = optimizer_of(start(), {**OPTION_SETS[name], "distributed": None})
        steps(optimizer, expected, SEEDS)
        optimizer.finish()
        for weights, waits, collectives, _ in results:
            assert difference(weights, [parameter.detach() for parameter in expected]) <= 1e-6
            assert waits == []
            assert collectives
        assert all(map(torch.equal, results[0][0], results[1][0]))
        assert results[0][3] == sorted(optimizer.state_dict()["state"][1])
