"""Trains a network of one's own, on scikit-learn's images of digits.

python examples/own_network.py
python examples/own_network.py --optimizer=adamw
"""

import argparse

import torch
from sklearn.datasets import load_digits
from stacked_shampoo import Shampoo
from torch import Tensor, nn


def digits() -> tuple[Tensor, Tensor]:
    """1797 images [1, 8, 8] with values in [0, 1] in an order by chance, and their labels."""
    loaded = load_digits()
    order = torch.randperm(len(loaded.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(loaded.images, dtype=torch.float32)[:, None] / 16
    return images[order], torch.tensor(loaded.target)[order]


def network() -> nn.Module:
    """A convolution and two layers."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a small network on images of digits.")
    parser.add_argument("--optimizer", choices=["shampoo", "adamw"], default="shampoo")
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--epochs", type=int, default=5)
    flags = parser.parse_args()
    if flags.epochs < 1:
        parser.error(f"--epochs={flags.epochs}: must be at least 1")

    torch.manual_seed(0)
    images, labels = digits()
    train, test = slice(0, 1500), slice(1500, None)
    model = network()
    # The same arguments for both: keep AdamW's learning rate, weight decay and schedule.
    kind = {"shampoo": Shampoo, "adamw": torch.optim.AdamW}[flags.optimizer]
    optimizer = kind(model.parameters(), lr=flags.lr, weight_decay=0.01)
    print(optimizer)

    batches_per_epoch = -(-1500 // 64)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=flags.lr, total_steps=flags.epochs * batches_per_epoch
    )
    for epoch in range(1, flags.epochs + 1):
        for batch in torch.randperm(1500).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[train][batch]), labels[train][batch])
            loss.backward()
            optimizer.step()
            scheduler.step()
        with torch.no_grad():
            right = model(images[test]).argmax(1) == labels[test]
        print(f"epoch {epoch}: loss {loss:.4f}, test accuracy {right.float().mean():.3f}")


if __name__ == "__main__":
    main()
