"""Trains under DDP, FSDP2 or HSDP, with the same line for the optimizer.

    torchrun --nproc_per_node=2 examples/distributed.py --wrapper=ddp
    torchrun --nproc_per_node=2 examples/distributed.py --wrapper=fsdp2
    torchrun --nproc_per_node=4 examples/distributed.py --wrapper=hsdp

Runs on GPUs if there is one for each rank, and on CPUs with gloo.
"""

import argparse
import os

import torch
import torch.distributed as dist
from stacked_shampoo import Shampoo
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel


def wrapped(model: nn.Module, wrapper: str, device: str) -> nn.Module:
    """The model as replicas, sharded over all ranks, or sharded within each of two replicas."""
    if wrapper == "ddp":
        return DistributedDataParallel(model)
    world = dist.get_world_size()
    shape, names = ((world,), ("shard",))
    if wrapper == "hsdp":
        shape, names = (2, world // 2), ("replica", "shard")
    mesh = init_device_mesh(device, shape, mesh_dim_names=names)
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains under DDP, FSDP2 or HSDP.")
    parser.add_argument("--wrapper", choices=["ddp", "fsdp2", "hsdp"], default="fsdp2")
    parser.add_argument("--steps", type=int, default=100)
    flags = parser.parse_args()
    if "LOCAL_RANK" not in os.environ:
        parser.error("start it with torchrun, as at the head of this file")
    if flags.wrapper == "hsdp" and int(os.environ["WORLD_SIZE"]) % 2:
        parser.error("hsdp needs an even number of ranks")

    local_rank, local_world = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    device = "cuda" if torch.cuda.device_count() >= local_world else "cpu"
    if device == "cuda":
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if device == "cuda" else "gloo")

    torch.manual_seed(0)  # the same weights on all ranks
    model = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
    model.append(nn.Linear(64, 8)).to(device)
    goal = torch.randn(32, 8, device=device)  # what the network has to learn: sin(x @ goal)
    model = wrapped(model, flags.wrapper, device)
    optimizer = Shampoo(model.parameters(), lr=3e-3)
    if dist.get_rank() == 0:
        print(optimizer)

    torch.manual_seed(1 + dist.get_rank())  # a part of the batch of its own on each rank
    for step in range(1, flags.steps + 1):
        inputs = torch.randn(256 // dist.get_world_size(), 32, device=device)
        loss = nn.functional.mse_loss(model(inputs), (inputs @ goal / 6).sin())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        dist.all_reduce(loss.detach_(), op=dist.ReduceOp.SUM)
        if dist.get_rank() == 0 and step % 20 == 0:
            print(f"step {step}: loss {loss / dist.get_world_size():.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
