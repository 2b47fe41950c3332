"""Layers that are cut among ranks, alone and within FSDP2, take the steps of one device."""

import functools

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from submission.shampoo import Shampoo
from tests.submission.shampoo import ranks
from tests.submission.shampoo.streams import VARIANTS
from tests.submission.shampoo.test_distributed import full, worst

OPTIONS = {"lr": 0.02, "block_size": 8, "refresh_interval": 3, "weight_decay": 0.1}
STEPS = 6


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(10), nn.Linear(10, 14), nn.Linear(14, 10)

    def forward(self, inputs):
        return self.down(torch.relu(self.up(self.norm(inputs))))


class Net(nn.Module):
    """A vocabulary and a head that two ranks cannot halve."""

    def __init__(self):
        super().__init__()
        self.tokens, self.block, self.head = nn.Embedding(11, 10), Block(), nn.Linear(10, 7)

    def forward(self, tokens):
        embedded = self.tokens(tokens)
        return self.head(embedded + self.block(embedded))


SPLIT = {
    "tokens": RowwiseParallel(input_layouts=Replicate()),
    "block.up": ColwiseParallel(),
    "block.down": RowwiseParallel(),
    "head": ColwiseParallel(output_layouts=Replicate()),
}
# The norm is cut along the sequence: its gradient is a sum of which each rank has a part.
SEQUENCE = {
    **SPLIT,
    "block": PrepareModuleInput(input_layouts=Replicate(), desired_input_layouts=Shard(1)),
    "block.norm": SequenceParallel(),
    "block.up": ColwiseParallel(input_layouts=Shard(1)),
}


def built(mode):
    torch.manual_seed(0)
    net = Net().double()
    if mode in ("split", "sequence"):
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        return parallelize_module(net, mesh, SPLIT if mode == "split" else SEQUENCE)
    if mode == "within fsdp":
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
        parallelize_module(net, mesh["tensor"], SPLIT)
        fully_shard(net.block, mesh=mesh["data"])
        return fully_shard(net, mesh=mesh["data"])
    return net


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def trained(rank, mode, names):
    """The weights after some steps, all ranks with the same batches."""
    del rank
    ends = {}
    for name in names:
        net = built(mode)
        optimizer = Shampoo(net.parameters(), **{**OPTIONS, **VARIANTS[name]})
        for step in range(STEPS):
            generator = torch.Generator().manual_seed(step)
            tokens, labels = torch.randint(7, (2, 8, 6), generator=generator)
            optimizer.zero_grad()
            outputs = whole(net(tokens))
            nn.functional.cross_entropy(outputs.flatten(0, 1), labels.flatten()).backward()
            optimizer.step()
        ends[name] = [full(weight) for weight in net.parameters()]
    return ends


NAMES = ("shampoo", "adagrad", "schedule_free")


@functools.cache
def on_one_device():
    return trained(0, "one", NAMES)


@pytest.mark.parametrize(("mode", "world"), [("split", 2), ("sequence", 2), ("within fsdp", 4)])
def test_layers_that_are_cut_take_the_steps_of_one_device(mode, world):
    for ends in ranks.run(world, trained, mode, NAMES):
        errors = {name: worst(ends[name], on_one_device()[name]) for name in NAMES}
        assert not {name: error for name, error in errors.items() if not error <= 1e-9}
