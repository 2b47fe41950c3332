"""Ranks that would divide work they do not share are told so, all of them and by name."""

import re

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import Shard, distribute_tensor

from submission.shampoo import DistributedConfig, Shampoo
from submission.shampoo.agreement import checksum
from tests.submission.shampoo import ranks

SHAPES = [(12, 8), (8,), (12, 8), (5, 3)]


def weights_of(rank, shapes=SHAPES, differ=False):
    torch.manual_seed(rank if differ else 0)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]


def _step(optimizer, weights):
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()


def refused(optimizer, weights):
    """The error of a first step, which moves nothing; it is raised again."""
    before = [weight.detach().clone() for weight in weights]
    said = []
    for _ in range(2):
        try:
            _step(optimizer, weights)
        except RuntimeError as error:
            said.append(str(error))
    assert all(map(torch.equal, before, weights))
    assert len(set(said)) == 1
    return said[0]


def other_model(rank):
    weights = weights_of(rank, [(12, 8), (8 + rank,)])
    return refused(Shampoo(weights), weights)


def more_parameters(rank):
    weights = weights_of(rank, SHAPES[: 2 + rank])
    return refused(Shampoo(weights), weights)


def other_values(rank):
    weights = weights_of(rank, differ=True)
    return refused(Shampoo([("first", weights[0]), ("second", weights[1])]), weights)


def other_order(rank, place):
    weights = weights_of(0)
    if rank:
        weights[0], weights[place] = weights[place], weights[0]
    return refused(Shampoo(weights), weights)


def other_option(rank, name, *values):
    weights = weights_of(0)
    return refused(Shampoo(weights, **{name: values[rank]}), weights)


def other_config(rank):
    weights = weights_of(0)
    config = DistributedConfig(buckets=1 + rank)
    return refused(Shampoo(weights, distributed=config), weights)


def other_state(rank):
    weights = weights_of(0)
    optimizer = Shampoo(weights, distributed=None)
    _step(optimizer, weights)
    saved = optimizer.state_dict()
    saved["state"][0]["exp_avg"][0, 0] += rank
    others = weights_of(0)
    optimizer = Shampoo(others)
    optimizer.load_state_dict(saved)
    return refused(optimizer, others)


def loaded_by_one(rank):
    weights, others = weights_of(0), weights_of(0)
    saved = Shampoo(others, distributed=None)
    _step(saved, others)
    optimizer = Shampoo(weights)
    if rank:
        optimizer.load_state_dict(saved.state_dict())
    return refused(optimizer, weights)


def gradient_of_one(rank, by_columns):
    weights = weights_of(0)
    if by_columns:  # put together by a collective, which the rank without a gradient does not join
        mesh = dist.init_device_mesh("cpu", (2,))
        whole = [weight.detach() for weight in weights]
        weights = [nn.Parameter(distribute_tensor(w, mesh, [Shard(w.dim() - 1)])) for w in whole]
    for weight in weights[rank:]:
        weight.grad = torch.ones_like(weight)
    with pytest.raises(RuntimeError) as error:
        Shampoo(weights, averaging="schedule_free").step()
    return str(error.value)


def replicas_of_shards(rank):
    mesh = dist.init_device_mesh("cpu", (2, 2), mesh_dim_names=("replica", "shard"))
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 6)
    fully_shard(model, mesh=mesh)
    weights = list(model.parameters())
    if rank == 3:
        weights[0].data.to_local().add_(1)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    with pytest.raises(RuntimeError) as error:
        Shampoo(weights).step()
    return str(error.value)


@pytest.mark.parametrize(
    ("function", "args", "said"),
    [
        (other_model, (), r"the shape, dtype and use of parameter 1 of group 0: .*\[8\].*\[9\]"),
        (more_parameters, (), r"the number of parameters of group 0: 2 and 3.*distributed=None"),
        (other_values, (), r"the values of first in group 0.*distributed=None"),
        (other_order, (2,), r"the same parameters in different orders"),
        (other_order, (1,), r"parameter 0 of group 0: .*\[12, 8\].*\[8\]"),
        (other_option, ("lr", 0.1, 0.2), r"group 0's lr: 0.1 and 0.2"),
        (other_option, ("betas", (0.9, 0.99), (0.9, 0.9)), r"group 0's betas: \(0.9, 0.99\) and"),
        (other_option, ("weight_decay", 0.0, 0.1), r"group 0's weight_decay: 0.0 and 0.1"),
        (other_option, ("method", "soap", "shampoo"), r"group 0's method: 'soap' and 'shampoo'"),
        (other_option, ("block_size", 4, 8), r"group 0's block_size: 4 and 8"),
        (other_option, ("refresh", "together", "staggered"), r"group 0's refresh: 'together' and"),
        (other_config, (), r"DistributedConfig.buckets: 1 and 2"),
        (gradient_of_one, (False,), r"whether param 0 of group 0 has a gradient: True and False\."),
        (gradient_of_one, (True,), r"param 0 of group 0 .* on all ranks or on none\."),
        (loaded_by_one, (), r"differ in the steps of group 0\. .*load the same state"),
        (other_state, (), r"the loaded 'exp_avg' of parameter 0.*load the same state"),
    ],
)
def test_ranks_that_differ_are_refused_on_all_of_them(function, args, said):
    answers = ranks.run(2, function, *args)
    assert answers[0] == answers[1]
    assert answers[0].startswith("Ranks 0 and 1 ")
    assert re.search(said, answers[0])


def test_replicas_of_shards_are_compared_too():
    answers = ranks.run(4, replicas_of_shards)
    assert answers[1] == answers[3]
    assert "Ranks 1 and 3 differ in the values of param 0" in answers[1]
    assert answers[0] == answers[2] == "Other ranks differ, see their errors."


def changed_later(rank, name, value):
    """The error after an option changed on rank 1 alone, once all ranks cut their blocks anew."""
    weights = weights_of(0)
    optimizer = Shampoo(weights)
    _step(optimizer, weights)
    (group,) = optimizer.param_groups
    if rank:
        group[name] = value
    _step(optimizer, weights)
    moved = [checksum(weight).item() for weight in weights]
    group["block_size"] = 4
    return moved, refused(optimizer, weights)


@pytest.mark.parametrize(("name", "value"), [("damping", 0.1), ("refresh_interval", 3)])
def test_an_option_changed_on_one_rank_is_refused_when_ranks_are_compared_again(name, value):
    (first, said), (other, said_there) = ranks.run(2, changed_later, name, value)
    assert first == other
    assert said == said_there
    assert re.match(rf"Ranks 0 and 1 differ in group 0's {name}: .* and {value}\.", said)


def independent(rank, config):
    """Different models on ranks, each as if it was alone."""
    groups = [dist.new_group([number]) for number in range(2)]
    weights, alone = weights_of(rank, differ=True), weights_of(rank, differ=True)
    given = DistributedConfig(group=groups[rank]) if config else None
    optimizer, other = Shampoo(weights, distributed=given), Shampoo(alone, distributed=None)
    for _ in range(3):
        _step(optimizer, weights)
        _step(other, alone)
    return all(map(torch.equal, weights, alone))


@pytest.mark.parametrize("config", [False, True])
def test_models_that_differ_between_ranks_train_where_that_is_said(config):
    assert ranks.run(2, independent, config) == [True, True]


def flattened(rank):
    del rank
    said = []
    for original in (False, True):
        model = torch.nn.Sequential(torch.nn.Linear(12, 20), torch.nn.Linear(20, 6))
        wrapped = FullyShardedDataParallel(
            model, use_orig_params=original, device_id=torch.device("cpu")
        )
        with pytest.raises(ValueError, match="FSDP1") as error:
            Shampoo(wrapped.parameters())
        said.append(str(error.value))
    return said


def test_flattened_parameters_are_refused():
    assert all("fully_shard" in text for answers in ranks.run(2, flattened) for text in answers)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_checksum_sees_every_bit_and_no_strides(dtype):
    tensor = torch.randn(6, 5).to(dtype)
    assert checksum(tensor) == checksum(tensor.T)
    other = tensor.clone()
    other[3, 2] = torch.nextafter(other[3, 2].float(), torch.tensor(9.0)).to(dtype) + 0.1
    assert checksum(tensor) != checksum(other)
    assert checksum(tensor[:0]) == 0
    assert checksum(torch.zeros(())) == 0
