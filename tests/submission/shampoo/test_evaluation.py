"""Evaluation at averages: batch normalisation's statistics, and everything back afterwards."""

import copy

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.optim.swa_utils import update_bn

from submission.shampoo import Shampoo, evaluation
from submission.shampoo.batch_norm import normalising_layers, update_statistics
from tests.submission.shampoo import ranks
from tests.submission.shampoo.test_distributed import full, worst


class OwnNorm(nn.Module):
    """Batch normalisation that replaces its buffers, as AlgoPerf's speech models have it."""

    def __init__(self, width, momentum):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x):
        mean, variance = self.running_mean, self.running_var
        if self.training:
            mean, variance = x.mean(0), x.var(0, correction=0)
            keep, new = 1 - self.momentum, self.momentum
            self.running_mean = keep * self.running_mean + new * mean.detach()
            self.running_var = keep * self.running_var + new * x.var(0).detach()
        return (x - mean) * torch.rsqrt(variance + 1e-5)


def network(momentum=0.1, norm=nn.BatchNorm1d):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 6),
        norm(6, momentum=momentum),
        nn.Tanh(),
        nn.Linear(6, 5),
        norm(5, momentum=momentum),
    )


def data(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(16, 4, generator=generator) for _ in range(count)]


def trained(model, batches, **options):
    """An optimizer of the model after a step for each batch."""
    optimizer = Shampoo(model.parameters(), lr=0.05, averaging="ema", **options)
    for batch in batches:
        optimizer.zero_grad()
        (model(batch) - batch.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_statistics_are_those_that_torchs_helper_takes(momentum):
    model, batches = network(momentum), data(5, seed=1)
    optimizer = trained(model, data(6), averaging_share=0.4)
    with evaluation(optimizer, model, batches):
        other = copy.deepcopy(model)
        update_bn(batches, other)
        assert not torch.equal(model[0].weight, trained_weight(optimizer, model))
        layers = zip(normalising_layers(model), normalising_layers(other), strict=True)
        for layer, twin in layers:
            torch.testing.assert_close(layer.running_mean, twin.running_mean, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(layer.running_var, twin.running_var, rtol=1e-4, atol=1e-5)


def trained_weight(optimizer, model):
    return optimizer.state_dict()["state"][0]["train_weight"].view_as(model[0].weight)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, OwnNorm])
@pytest.mark.parametrize("fails", [False, True])
def test_all_is_afterwards_as_it_was(norm, fails):
    model = network(norm=norm)
    optimizer = trained(model, data(4))
    model[4].eval()
    before = copy.deepcopy(model.state_dict())
    try:
        with evaluation(optimizer, model, data(3, seed=1)):
            assert not any(module.training for module in model.modules())
            assert not torch.equal(model[1].running_mean, before["1.running_mean"])
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert [module.training for module in model] == [True, True, True, True, False]
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    optimizer.step()


def test_evaluation_within_evaluation_stays_at_the_averages():
    model = network()
    optimizer = trained(model, data(4))
    optimizer.eval()
    averages = copy.deepcopy(model.state_dict())
    with evaluation(optimizer, model):
        pass
    assert all(torch.equal(averages[name], x) for name, x in model.state_dict().items())
    optimizer.train()
    assert not optimizer.evaluates


def test_a_pass_that_fails_leaves_statistics_and_training_as_they_were():
    model = network()
    optimizer = trained(model, data(4))
    before = copy.deepcopy(model.state_dict())

    def forward(model, batch):
        model(batch)
        raise KeyError

    with pytest.raises(KeyError), evaluation(optimizer, model, data(2), forward):
        raise AssertionError
    after = model.state_dict()
    assert model.training and all(torch.equal(before[name], after[name]) for name in before)


def test_layers_of_ones_own_get_statistics_as_torchs_do():
    models = network(), network(norm=OwnNorm)
    for model in models:
        update_statistics(normalising_layers(model), data(3), model)
    for name in ("1.running_mean", "1.running_var", "4.running_mean", "4.running_var"):
        first, second = (model.state_dict()[name] for model in models)
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_frozen_statistics_and_models_without_any_read_no_batches():
    for model in (network(momentum=0.0), nn.Sequential(nn.Linear(4, 3))):
        optimizer = trained(model, data(2))
        batches = iter(data(1))
        with evaluation(optimizer, model, batches):
            pass
        assert len(list(batches)) == 1


def test_without_batches_statistics_stay_those_of_training():
    model = network()
    optimizer = trained(model, data(2))
    mean = model[1].running_mean.clone()
    with evaluation(optimizer, model):
        assert torch.equal(model[1].running_mean, mean)


def between_epochs(rank, sharded, moved):
    """Outputs at the averages after each of two epochs, and the weights at the end."""
    del rank
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5)).double()
    if sharded:
        fully_shard(model)
    optimizer = Shampoo(model.parameters(), lr=0.05, averaging="ema")
    outputs = []
    for epoch in range(2):
        for batch in data(3, seed=epoch):
            optimizer.zero_grad()
            model(batch.double()).square().mean().backward()
            optimizer.step()
        if moved:
            model.to("cpu")  # gives shards other tensors, also where they stay
        with torch.no_grad():
            model(batch.double())
            with evaluation(optimizer, model):
                outputs.append(model(batch.double()))
    return outputs, [full(weight) for weight in model.parameters()]


@pytest.mark.parametrize("moved", [False, True])
def test_under_fsdp_neither_evaluation_nor_training_reads_weights_of_before(moved):
    expected = between_epochs(0, sharded=False, moved=moved)
    for found in ranks.run(2, between_epochs, True, moved):
        assert max(map(worst, found, expected)) <= 1e-9
