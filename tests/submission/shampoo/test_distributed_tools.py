"""Tools of torch that let ranks go their own ways: what they need, and what says so."""

import torch
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from submission.shampoo import Shampoo
from tests.submission.shampoo import ranks
from tests.submission.shampoo.streams import assert_equal

OPTIONS = {"lr": 0.01, "block_size": 4, "refresh_interval": 2, "refresh": "together"}


def _model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))


def _train(model, optimizer, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 6, generator=generator)).square().mean().backward()
        optimizer.step()


def _weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def _apart(rank):
    """Weights after each tool with `distributed=None`, and the error without it."""
    model = DistributedDataParallel(_model())
    optimizer = Shampoo(model.parameters(), **OPTIONS, distributed=None)
    with Join([model]):
        _train(model, optimizer, 2 + rank, seed=rank)
    uneven = _weights(model)
    ends = []
    for wrap in (Shampoo, ZeroRedundancyOptimizer):
        model = DistributedDataParallel(_model())
        arguments = {} if wrap is Shampoo else {"optimizer_class": Shampoo}
        optimizer = wrap(model.parameters(), **arguments, **OPTIONS, distributed=None)
        _train(model, optimizer, 4, seed=rank)
        ends.append(_weights(model))
    divided_twice = ZeroRedundancyOptimizer(model.parameters(), Shampoo, **OPTIONS)
    try:
        _train(model, divided_twice, 1, seed=rank)
    except RuntimeError as error:
        return uneven, ends, str(error)
    return uneven, ends, ""


def test_ranks_that_go_their_own_ways_share_no_work():
    (uneven, ends, error), (others, other_ends, other_error) = ranks.run(2, _apart)
    assert_equal(uneven, others)
    for one, other in zip(ends, other_ends, strict=True):
        assert_equal(one, other)
    torch.testing.assert_close(*ends)  # blocks are stacked otherwise
    assert error == other_error
    assert "distributed=None, as where ZeroRedundancyOptimizer" in error
