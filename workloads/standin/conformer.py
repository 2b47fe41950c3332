"""A conformer: attention and convolution between two half-weighted feed-forward modules.

The block is that of Gulati et al., Conformer (2020), as the official PyTorch workload arranges it.
Frames beyond the end of a sequence are kept out of attention, convolution and batch statistics.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from workloads.standin import replicas
from workloads.standin.transformer import SelfAttention


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of [batch, frames, width] over frames that are real."""

    def forward(self, x: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """Normalises x; `real` [batch, frames, 1] is 1 for real frames, all by default."""
        assert self.running_mean is not None and self.running_var is not None
        if self.training:
            mask = torch.ones_like(x[..., :1]) if real is None else real
            count = mask.sum()
            mean = (x * mask).sum((0, 1)) / count
            variance = ((x - mean).square() * mask).sum((0, 1)) / count
            momentum = self.momentum or 0.0
            with torch.no_grad():
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance, momentum)
        else:
            mean, variance = self.running_mean, self.running_var
        return (x - mean) * (self.weight * torch.rsqrt(variance + self.eps)) + self.bias


class FeedForward(nn.Module):
    """A normalised two-layer SiLU network on every frame."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear_in = nn.Linear(width, hidden)
        self.linear_out = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.linear_out(F.silu(self.linear_in(self.norm(x))))
        return hidden


class Convolution(nn.Module):
    """A gated projection, a depthwise convolution over time, batch norm, SiLU, a projection."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(
            width, width, kernel, padding=kernel // 2, groups=width, bias=False
        )
        self.batch_norm = MaskedBatchNorm(width)
        self.linear_out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        gated = F.glu(self.gate(self.norm(x)), -1) * real
        mixed = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        out: torch.Tensor = self.linear_out(F.silu(self.batch_norm(mixed, real)))
        return out


class ConformerBlock(nn.Module):
    """Half a feed-forward module, attention, convolution, half a feed-forward module, a norm."""

    def __init__(self, width: int, heads: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.mlp_before = FeedForward(width, hidden)
        self.norm_attention = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, causal=False)
        self.conv = Convolution(width, kernel)
        self.mlp_after = FeedForward(width, hidden)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, real: torch.Tensor, dropout_rate: float) -> torch.Tensor:
        def drop(out: torch.Tensor) -> torch.Tensor:
            return replicas.dropout(out, dropout_rate, self.training)

        x = x + 0.5 * drop(self.mlp_before(x))
        visible = (real > 0).view(len(x), 1, 1, -1)
        x = x + drop(self.attention(self.norm_attention(x), visible))
        x = x + drop(self.conv(x, real))
        x = x + 0.5 * drop(self.mlp_after(x))
        out: torch.Tensor = self.norm(x)
        return out


def sinusoids(frames: int, width: int) -> torch.Tensor:
    """Sines and cosines of positions, wavelengths from 2 pi to 20,000 pi: float32 [frames, width].

    After Vaswani et al., Attention is all you need (2017); `width` is even and more than 2.
    """
    half = width // 2
    rates = torch.exp(torch.arange(half) * (-math.log(10_000.0) / (half - 1)))
    angles = torch.arange(frames)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)
