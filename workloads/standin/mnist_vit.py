"""`mnist_vit` stands in for imagenet_vit: a small vision transformer on 5,000 MNIST digits."""

from typing import ClassVar

import torch
from torch import nn

from workloads.standin.mnist_digits import CLASSES, SIDE, MnistWorkload
from workloads.standin.transformer import Transformer, initialise


class VisionTransformer(nn.Module):
    """Linear patch embedding, pre-norm blocks, mean over patches, linear head that starts at zero.

    Args:
      patch: side of a square patch in pixels, a divisor of 28.
      width, depth, heads, mlp_width: sizes of the transformer.
    """

    def __init__(
        self, patch: int = 7, width: int = 64, depth: int = 3, heads: int = 4, mlp_width: int = 256
    ) -> None:
        super().__init__()
        self.patch = patch
        self.patches = nn.Linear(patch * patch, width)
        tokens = (SIDE // patch) ** 2
        self.transformer = Transformer(tokens, width, depth, heads, mlp_width, causal=False)
        self.head = nn.Linear(width, CLASSES)
        initialise(self)
        nn.init.zeros_(self.head.weight)

    def forward(self, inputs: torch.Tensor, dropout_rate: float = 0.0) -> torch.Tensor:
        """Images [batch, 1, 28, 28] to logits [batch, 10]."""
        grid, patch = SIDE // self.patch, self.patch
        tiles = inputs.view(-1, grid, patch, grid, patch).transpose(2, 3)
        tokens = self.patches(tiles.reshape(-1, grid * grid, patch * patch))
        logits: torch.Tensor = self.head(self.transformer(tokens, dropout_rate).mean(1))
        return logits


class MnistVitWorkload(MnistWorkload):
    """Image classification by a vision transformer."""

    name: ClassVar[str] = "mnist_vit"

    def build_model(self) -> nn.Module:
        return VisionTransformer()
