"""Trains a mixture of experts whose weights are stacks `[experts, in, out]`.

    python examples/mixture_of_experts.py
    python examples/mixture_of_experts.py --optimizer=adamw

Each expert's matrix has blocks and factors of its own. A factor between experts would tell nothing:
tokens that go to one say little about another.
"""

import argparse

import torch
from stacked_shampoo import Shampoo, parameter_groups
from torch import Tensor, nn

EXPERTS, WIDTH, HIDDEN = 8, 24, 48


class Mixture(nn.Module):
    """Experts of two layers, weighted by a router that sees the token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, WIDTH)
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.up = nn.Parameter(torch.randn(EXPERTS, WIDTH, HIDDEN) / WIDTH**0.5)
        self.down = nn.Parameter(torch.randn(EXPERTS, HIDDEN, WIDTH) / HIDDEN**0.5)

    def forward(self, tokens: Tensor, inputs: Tensor) -> Tensor:
        gates = self.router(self.embed(tokens)).softmax(-1)
        hidden = nn.functional.gelu(torch.einsum("bi,eih->ebh", inputs, self.up))
        return torch.einsum("be,ebh,eho->bo", gates, hidden, self.down)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a small mixture of experts.")
    parser.add_argument("--optimizer", choices=["shampoo", "adamw"], default="shampoo")
    parser.add_argument("--matrix_dims", choices=["auto", "stack", "convolution"], default="auto")
    parser.add_argument("--lr", type=float, default=3e-2)
    parser.add_argument("--steps", type=int, default=300)
    flags = parser.parse_args()

    torch.manual_seed(0)
    model = Mixture()
    if flags.optimizer == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), lr=flags.lr)
    else:
        # The embedding is a table by the type of its module. [8, 24, 48] is a stack by its shape:
        # kernels are small. matrix_dims="stack" would say so of a stack that looks like one.
        groups = parameter_groups(model)
        optimizer = Shampoo(groups, lr=flags.lr, matrix_dims=flags.matrix_dims)
        print(optimizer)

    # Each of 8 kinds of tokens has a map of its own; inputs are correlated, as activations are.
    maps = torch.randn(8, WIDTH, WIDTH) / WIDTH**0.5
    mixing = torch.randn(WIDTH, WIDTH) * torch.logspace(0, -1.5, WIDTH)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, flags.steps)
    for step in range(1, flags.steps + 1):
        tokens = torch.randint(64, (512,))
        inputs = torch.randn(512, WIDTH) @ mixing
        targets = torch.einsum("bi,bio->bo", inputs, maps[tokens % 8])
        loss = nn.functional.mse_loss(model(tokens, inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss:.4f}")


if __name__ == "__main__":
    main()
