"""`mnist_resnet` stands in for imagenet_resnet: a small residual network on 5,000 MNIST digits.

As the official ResNet-50 it has batch normalisation, convolutions without biases, projected
shortcuts where the size changes, and residual branches that start at zero. It differs in blocks of
two 3x3 convolutions, as in ResNet-18, in a 3x3 stem without pooling, and in taking a dropout rate,
which acts on the pooled features.
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from workloads.standin import replicas
from workloads.standin.mnist_digits import CLASSES, MnistWorkload

# Channels of each stage; all stages but the first halve the side of the image.
WIDTHS = (16, 32, 64)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, the first with a stride, added to a shortcut; ReLU after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.batch_norm_1 = nn.BatchNorm2d(outputs)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.batch_norm_2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential()
            self.shortcut.add_module("conv", nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.shortcut.add_module("batch_norm", nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self.batch_norm_1(self.conv_1(x)))
        return F.relu(self.batch_norm_2(self.conv_2(hidden)) + self.shortcut(x))


class ResidualNetwork(nn.Module):
    """A stem of stride 2, one residual block per stage, mean over pixels, linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem_conv = nn.Conv2d(1, WIDTHS[0], 3, stride=2, padding=1, bias=False)
        self.stem_batch_norm = nn.BatchNorm2d(WIDTHS[0])
        sizes = zip([WIDTHS[0], *WIDTHS[:-1]], WIDTHS, strict=True)
        self.stages = nn.Sequential(
            *(
                ResidualBlock(inputs, outputs, stride=2 if stage else 1)
                for stage, (inputs, outputs) in enumerate(sizes)
            )
        )
        self.head = nn.Linear(WIDTHS[-1], CLASSES)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                nn.init.normal_(module.weight, std=1 / math.sqrt(fan_in))
            elif isinstance(module, ResidualBlock):
                nn.init.zeros_(module.batch_norm_2.weight)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: torch.Tensor, dropout_rate: float = 0.0) -> torch.Tensor:
        """Images [batch, 1, 28, 28] to logits [batch, 10]."""
        hidden = F.relu(self.stem_batch_norm(self.stem_conv(inputs)))
        features = self.stages(hidden).mean((2, 3))
        dropped = replicas.dropout(features, dropout_rate, self.training)
        logits: torch.Tensor = self.head(dropped)
        return logits


class MnistResnetWorkload(MnistWorkload):
    """Image classification by a residual network."""

    name: ClassVar[str] = "mnist_resnet"

    def build_model(self) -> nn.Module:
        return ResidualNetwork()
