"""Checkpoints that know of no ranks: saved by some, loaded by others."""

import dataclasses

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from submission.shampoo import DistributedConfig, Shampoo
from tests.submission.shampoo import ranks
from tests.submission.shampoo.streams import OPTIONS, VARIANTS, parameters
from tests.submission.shampoo.test_distributed import (
    SHAPES,
    full,
    gradients,
    laid_out,
    like,
    worst,
)

BEFORE, AFTER = 7, 8
METHODS = ("shampoo", "soap", "kl_shampoo", "staggered", "ema", "schedule_free", "overlap")


def launched(mode, world, function, *args):
    return [function(0, mode, *args)] if mode == "one" else ranks.run(world, function, mode, *args)


def steps(optimizer, weights, numbers):
    for number in numbers:
        for weight, grad in zip(weights, gradients(number), strict=True):
            weight.grad = like(weight, grad)
        optimizer.step()


def begun(mode, name, folder):
    """Some steps, then a checkpoint of weights and state; what all that comes after leads to."""
    weights = laid_out(mode, [p.detach() for p in parameters(SHAPES, torch.float32)])
    optimizer = Shampoo(weights, **{**OPTIONS, **VARIANTS[name]})
    steps(optimizer, weights, range(BEFORE))
    optimizer.consolidate_state_dict(to=0)
    whole = [full(weight) for weight in weights]
    if not dist.is_initialized() or dist.get_rank() == 0:
        torch.save((whole, optimizer.state_dict()), f"{folder}/{name}")
    steps(optimizer, weights, range(BEFORE, BEFORE + AFTER))
    return [full(weight) for weight in weights]


def resumed(mode, name, folder):
    whole, state = torch.load(f"{folder}/{name}", weights_only=True)
    weights = laid_out(mode, whole)
    optimizer = Shampoo(weights, **OPTIONS)
    optimizer.load_state_dict(state)
    steps(optimizer, weights, range(BEFORE, BEFORE + AFTER))
    return [full(weight) for weight in weights]


def all_begun(rank, mode, folder):
    del rank
    return {name: begun(mode, name, folder) for name in METHODS}


def all_resumed(rank, mode, folder):
    del rank
    return {name: resumed(mode, name, folder) for name in METHODS}


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [
        (("fsdp", 4), [("ddp", 2), ("one", 1), ("hsdp", 4), ("fsdp", 4)]),
        (("ddp", 2), [("fsdp", 4), ("ddp", 2)]),
        (("one", 1), [("ddp", 4)]),
    ],
)
def test_a_checkpoint_goes_on_under_any_number_of_ranks(saved, loaded, tmp_path):
    uninterrupted = launched(*saved, all_begun, str(tmp_path))[0]
    for mode, world in loaded:
        for weights in launched(mode, world, all_resumed, str(tmp_path)):
            for name in METHODS:
                if (mode, world) == saved:  # the same layout: bit for bit
                    pairs = zip(weights[name], uninterrupted[name], strict=True)
                    assert all(torch.equal(a, b) for a, b in pairs), name
                else:
                    assert worst(weights[name], uninterrupted[name]) <= 1e-6, (mode, world, name)


def asked_elsewhere(rank, mode):
    """The number of entries that the named rank has; another one says that it is not named."""
    weights = laid_out(mode, gradients(0))
    optimizer = Shampoo(weights, distributed=DistributedConfig(collective_state_dict=True))
    steps(optimizer, weights, range(1))
    optimizer.consolidate_state_dict(to=1)
    if rank == 1:
        return len(optimizer.state_dict()["state"])
    with pytest.raises(RuntimeError, match="has named another rank"):
        optimizer.state_dict()
    return None


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_a_rank_that_was_not_named_does_not_wait_for_the_one_that_was(mode):
    assert ranks.run(2, asked_elsewhere, mode) == [None, len(SHAPES)]


def asked_too_early(rank):
    """What a rank says that is asked for a state of which it has a part."""
    weights = laid_out("ddp", gradients(0))
    optimizer = Shampoo(weights)
    optimizer.state_dict()  # nothing to miss yet
    steps(optimizer, weights, range(2))
    messages = []
    for ask in (optimizer.state_dict, optimizer.__getstate__):
        with pytest.raises(RuntimeError, match="consolidate_state_dict") as caught:
            ask()
        messages.append(str(caught.value))
    for to in (2, -1, "all"):
        with pytest.raises(ValueError, match="to must be None or a rank, an integer from 0 to 1"):
            optimizer.consolidate_state_dict(to=to)
    optimizer.consolidate_state_dict(to=1)
    if rank == 1:
        assert len(optimizer.state_dict()["state"]) == len(SHAPES)
    else:
        with pytest.raises(RuntimeError, match="consolidate_state_dict"):
            optimizer.state_dict()
    steps(optimizer, weights, range(1))
    with pytest.raises(RuntimeError, match="after the last step"):
        optimizer.state_dict()
    return messages


def test_no_rank_gives_a_part_for_the_whole():
    assert len(ranks.run(2, asked_too_early)[0]) == 2


def evaluated_after_consolidation(rank, mode, name):
    """Whether states saved around `eval` and `train` lead back to the weights of training."""
    weights = laid_out(mode, [p.detach() for p in parameters(SHAPES, torch.float32)])
    optimizer = Shampoo(weights, **{**OPTIONS, **VARIANTS[name]})
    steps(optimizer, weights, range(3))
    trained = [full(weight) for weight in weights]
    optimizer.consolidate_state_dict(to=0)
    optimizer.eval()
    if mode == "fsdp":
        if rank == 0:
            with pytest.raises(RuntimeError, match=r"eval\(\) was called after consolidate"):
                optimizer.state_dict()
        optimizer.consolidate_state_dict(to=0)
    averages = [full(weight) for weight in weights]
    if rank == 0:
        copies = [torch.nn.Parameter(average.clone()) for average in averages]
        other = Shampoo(copies, **OPTIONS, distributed=None)
        other.load_state_dict(optimizer.state_dict())
        other.train()
        assert all(map(torch.equal, copies, trained))
    optimizer.train()
    if rank == 0:
        entries = optimizer.state_dict()["state"].values()
        assert not any("train_weight" in entry for entry in entries)
    return all(map(torch.equal, averages, trained))


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", ["ema", "schedule_free"])
def test_a_checkpoint_follows_the_mode_of_evaluation(mode, name):
    """Hugging Face's Trainer evaluates between a callback that consolidates and its checkpoint."""
    assert ranks.run(2, evaluated_after_consolidation, mode, name) == [False, False]


class Net(nn.Module):
    """Something with a layer of every kind, one of them frozen."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.Flatten(), nn.LayerNorm(96), nn.Linear(96, 10), nn.Linear(10, 3)
        )
        self.layers[2].requires_grad_(False)

    def forward(self, images):
        return self.layers(images)


def model():
    torch.manual_seed(0)
    return Net().double()  # in which rounding stays far below what the test must see


def trained(net, numbers, optimizer, rank=0, world=1):
    """Steps on a global batch of 8, of which each rank sees its part."""
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        images = torch.randn(8, 1, 6, 6, generator=generator).double().chunk(world)[rank]
        optimizer.zero_grad()
        net(images).square().mean().backward()
        optimizer.step()


def shard(net):
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in net.layers:
        if list(layer.parameters()):
            fully_shard(layer, mesh=mesh)
    return fully_shard(net, mesh=mesh)


def replicate(net):
    return DistributedDataParallel(net)


def shard_and_replicate(net):
    shape = 2, dist.get_world_size() // 2
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("replica", "shard"))
    for layer in (net.layers[0], net.layers[3]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(net, mesh=mesh)


WRAPPED = {"one": lambda net: net, "ddp": replicate, "fsdp": shard, "hsdp": shard_and_replicate}
OPTIMIZERS = {
    "shampoo": {"momentum": 0.5, "averaging": "ema"},
    "soap": {"method": "soap"},
    "kl_shampoo": {"method": "kl_shampoo", "averaging": "schedule_free"},
}
ROUTES = {
    "sharded": StateDictOptions(),
    "flattened": StateDictOptions(flatten_optimizer_state_dict=True),
    "offloaded": StateDictOptions(cpu_offload=True),
    "full": StateDictOptions(full_state_dict=True, cpu_offload=True),
}


def built(mode, name):
    net = WRAPPED[mode](model())
    config = DistributedConfig(collective_state_dict=True)
    options = {"lr": 0.01, "block_size": 16, "refresh_interval": 3, **OPTIMIZERS[name]}
    return net, Shampoo(net.parameters(), **options, distributed=config)


def saved_by_torch(rank, mode, folder, names, routes):
    """Some steps, a checkpoint by `torch.distributed.checkpoint`, and steps after it."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    ends = {}
    for name in names:
        net, optimizer = built(mode, name)
        trained(net, range(4), optimizer, rank, world)
        optimizer.zero_grad()
        for route in routes:
            weights, state = get_state_dict(net, optimizer, options=ROUTES[route])
            if route != "full":
                dcp.save(
                    {"model": weights, "optimizer": state}, checkpoint_id=f"{folder}/{name}-{route}"
                )
            elif rank == 0:
                torch.save((weights, state), f"{folder}/{name}.pt")
        trained(net, range(4, 10), optimizer, rank, world)
        ends[name] = [full(p) for p in net.parameters()]
    return ends


def loaded_by_torch(rank, mode, folder, names, routes):
    """The same end, from a new optimizer whose state is loaded in place or from rank 0's file."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    ends = {}
    for name in names:
        for route in routes:
            net, optimizer = built(mode, name)
            trained(net, range(90, 90 + len(route) % 2), optimizer, rank, world)
            optimizer.zero_grad()
            options = ROUTES[route]
            if route == "full":
                options = dataclasses.replace(options, broadcast_from_rank0=world > 1)
                weights, state = {}, {}
                if rank == 0:
                    weights, state = torch.load(f"{folder}/{name}.pt", weights_only=True)
            else:
                weights, state = get_state_dict(net, optimizer, options=options)
                target = {"model": weights, "optimizer": state}
                dcp.load(target, checkpoint_id=f"{folder}/{name}-{route}")
                weights, state = target["model"], target["optimizer"]
            set_model_state_dict(net, weights, options=options)
            set_optimizer_state_dict(net, optimizer, state, options=options)
            trained(net, range(4, 10), optimizer, rank, world)
            ends[name, route] = [full(p) for p in net.parameters()]
    return ends


def loaded_averages(rank, mode):
    """How loading "full" state that was saved in eval mode ends."""
    net, optimizer = built(mode, "shampoo")
    trained(net, range(2), optimizer, rank, 2)
    optimizer.eval()
    options = ROUTES["full"]
    state = get_state_dict(net, optimizer, options=options)[1]
    other, fresh = built(mode, "shampoo")
    options = dataclasses.replace(options, broadcast_from_rank0=True)
    with pytest.raises(ValueError, match=r"call train\(\) before saving"):
        set_optimizer_state_dict(other, fresh, state, options=options)
    return dist.get_rank()


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_averages_without_trained_weights_are_refused_on_all_ranks(mode):
    assert ranks.run(2, loaded_averages, mode) == [0, 1]


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize(
    ("saved", "loaded", "routes"),
    [
        (("one", 1), ("one", 1), ("sharded", "flattened", "offloaded", "full")),
        (("ddp", 2), ("ddp", 2), ("sharded", "flattened", "full")),
        (("fsdp", 2), ("fsdp", 2), ("sharded", "flattened", "offloaded", "full")),
        (("hsdp", 4), ("hsdp", 4), ("sharded", "full")),
        (("fsdp", 4), ("fsdp", 2), ("sharded", "full")),
        (("hsdp", 4), ("ddp", 2), ("full",)),
        (("ddp", 2), ("fsdp", 2), ("full",)),
        (("fsdp", 2), ("one", 1), ("sharded",)),
    ],
)
def test_torchs_own_checkpoints_go_on(saved, loaded, routes, tmp_path):
    """On the same layout for each method; SOAP's bases of singular factors depend on rounding."""
    names = tuple(OPTIMIZERS) if saved == loaded else ("shampoo",)
    expected = launched(*saved, saved_by_torch, str(tmp_path), names, routes)[0]
    for ends in launched(*loaded, loaded_by_torch, str(tmp_path), names, routes):
        for (name, route), weights in ends.items():
            assert worst(weights, expected[name]) <= 1e-9, (name, route)
