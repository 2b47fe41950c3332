"""A U-Net with instance normalisation, the model of fastMRI (Zbontar et al. 2018) at any size."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from workloads.standin import replicas

SLOPE = 0.2


def _drop_channels(x: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
    if not training or rate == 0:
        return x
    return x * replicas.dropout(x.new_ones(*x.shape[:2], 1, 1), rate, training)


def _activate(x: torch.Tensor) -> torch.Tensor:
    """Leaky ReLU of instance-normalised channels; the normalisation has no parameters."""
    return F.leaky_relu(F.instance_norm(x), SLOPE)


class ConvBlock(nn.Module):
    """Twice a 3x3 convolution, instance normalisation, leaky ReLU and dropout of channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor, dropout_rate: float) -> torch.Tensor:
        for conv in (self.conv_1, self.conv_2):
            x = _drop_channels(_activate(conv(x)), dropout_rate, self.training)
        return x


class UNet(nn.Module):
    """Levels that halve the side and double the channels, and back up with what they had.

    Args:
      channels: of the topmost level.
      levels: number of halvings; images have a side that 2**levels divides.
    """

    def __init__(self, channels: int = 8, levels: int = 3) -> None:
        super().__init__()
        widths = [channels << level for level in range(levels)]
        self.down = nn.ModuleList(
            ConvBlock(inputs, outputs)
            for inputs, outputs in zip([1, *widths[:-1]], widths, strict=True)
        )
        self.bottom = ConvBlock(widths[-1], 2 * widths[-1])
        self.transposed_conv = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 2, stride=2, bias=False)
            for width in reversed(widths)
        )
        self.up = nn.ModuleList(ConvBlock(2 * width, width) for width in reversed(widths))
        self.conv_head = nn.Conv2d(channels, 1, 1)
        self.apply(_initialise)

    def forward(self, inputs: torch.Tensor, dropout_rate: float = 0.0) -> torch.Tensor:
        """Images [batch, side, side] to images of the same shape."""
        x = inputs[:, None]
        skipped = []
        for block in self.down:
            x = block(x, dropout_rate)
            skipped.append(x)
            x = F.avg_pool2d(x, 2)
        x = self.bottom(x, dropout_rate)
        for enlarge, block in zip(self.transposed_conv, self.up, strict=True):
            x = torch.cat([_activate(enlarge(x)), skipped.pop()], dim=1)
            x = block(x, dropout_rate)
        image: torch.Tensor = self.conv_head(x)[:, 0]
        return image


def _initialise(module: Any) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        # Each output of a transposed convolution whose stride is its size has one pixel as input.
        reach = math.prod(module.kernel_size) if isinstance(module, nn.Conv2d) else 1
        nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_channels * reach))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
