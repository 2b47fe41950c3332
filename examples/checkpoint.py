"""Saves and resumes with torch.distributed.checkpoint, on one device or under FSDP2.

    python examples/checkpoint.py --folder=runs/checkpoint --steps=40
    python examples/checkpoint.py --folder=runs/checkpoint --steps=80   # goes on from step 40
    torchrun --nproc_per_node=2 examples/checkpoint.py --folder=runs/checkpoint --steps=120

Any number of ranks loads what any other has saved: the last line goes on from step 80.
"""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from stacked_shampoo import Shampoo
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard


def save(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Saves weights and state; each rank writes what it holds."""
    weights, state = get_state_dict(model, optimizer)
    saved = {"model": weights, "optimizer": state}
    dcp.save(saved, checkpoint_id=folder)


def load(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Loads in place, into the tensors of this model and optimizer."""
    weights, state = get_state_dict(model, optimizer)
    saved = {"model": weights, "optimizer": state}
    dcp.load(saved, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains, saves, and resumes where it left off.")
    parser.add_argument("--folder", type=Path, required=True, help="of the checkpoints")
    parser.add_argument("--steps", type=int, default=60, help="in all, earlier runs included")
    flags = parser.parse_args()
    if "LOCAL_RANK" in os.environ:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if dist.is_initialized() else 0

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 8))
    goal = torch.randn(32, 8)  # what the network has to learn: sin(x @ goal)
    if dist.is_initialized():
        fully_shard(model)
    optimizer = Shampoo(model.parameters(), lr=3e-3)

    done = max((int(path.name) for path in flags.folder.glob("[0-9]*")), default=0)
    if done:
        load(model, optimizer, flags.folder / str(done))
    if rank == 0 and done >= flags.steps:
        print(f"step {done}: --steps={flags.steps} are taken")
    for step in range(done, flags.steps):
        torch.manual_seed(1000 + step)  # data that a resumed run finds again
        inputs = torch.randn(256, 32)
        loss = nn.functional.mse_loss(model(inputs), (inputs @ goal / 6).sin())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if rank == 0 and step in (done, flags.steps - 1):
            print(f"step {step + 1}: loss {loss:.6f}")
    optimizer.zero_grad()
    if flags.steps > done:
        save(model, optimizer, flags.folder / str(flags.steps))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
