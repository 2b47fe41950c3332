"""`mnist_vit` stands in for imagenet_vit: a small vision transformer on 5,000 MNIST digits."""

from typing import ClassVar

import torch
from torch import nn

from workloads.standin.mnist_digits import CLASSES, SIDE, MnistWorkload
from workloads.standin.transformer import Transformer, initialise

# Side of a square patch in pixels, a divisor of 28; sizes of the transformer.
PATCH, WIDTH, DEPTH, HEADS, MLP_WIDTH = 7, 64, 3, 4, 256


class VisionTransformer(nn.Module):
    """Linear patch embedding, pre-norm blocks, mean over patches, linear head that begins at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Linear(PATCH * PATCH, WIDTH)
        tokens = (SIDE // PATCH) ** 2
        self.transformer = Transformer(tokens, WIDTH, DEPTH, HEADS, MLP_WIDTH, causal=False)
        self.head = nn.Linear(WIDTH, CLASSES)
        initialise(self)
        nn.init.zeros_(self.head.weight)

    def forward(self, inputs: torch.Tensor, dropout_rate: float = 0.0) -> torch.Tensor:
        """Images [batch, 1, 28, 28] to logits [batch, 10]."""
        grid = SIDE // PATCH
        tiles = inputs.view(-1, grid, PATCH, grid, PATCH).transpose(2, 3)
        tokens = self.patches(tiles.reshape(-1, grid * grid, PATCH * PATCH))
        logits: torch.Tensor = self.head(self.transformer(tokens, dropout_rate).mean(1))
        return logits


class MnistVitWorkload(MnistWorkload):
    """Image classification by a vision transformer."""

    name: ClassVar[str] = "mnist_vit"

    def build_model(self) -> nn.Module:
        return VisionTransformer()
