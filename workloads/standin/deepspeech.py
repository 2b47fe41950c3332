"""A Deep Speech 2 network: convolutions over a spectrogram, bidirectional LSTMs, linear layers.

After Amodei et al., Deep Speech 2 (2016), with the residual connections and the last layer norm of
the official PyTorch workload.
"""

import torch
import torch.nn.functional as F
from torch import nn

from workloads.standin import replicas
from workloads.standin.conformer import MaskedBatchNorm
from workloads.standin.transformer import initialise

# Of the convolutions; of a frame's vector; the number of layers of either kind.
CHANNELS, WIDTH, LSTMS, LINEARS = 32, 128, 2, 1


class NormalisedLstm(nn.Module):
    """Batch normalisation and a bidirectional LSTM, half the width in either direction."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.batch_norm = MaskedBatchNorm(width)
        self.lstm = nn.LSTM(width, width // 2, bidirectional=True, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.lstm(self.batch_norm(x))[0]
        return states


class NormalisedLinear(nn.Module):
    """Batch normalisation, a linear layer, ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.batch_norm = MaskedBatchNorm(width)
        self.linear = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.linear(self.batch_norm(x)))


class DeepSpeech(nn.Module):
    """Two convolutions, residual LSTMs, residual feed-forward layers, a layer norm, a linear head.

    The convolutions halve time once and frequency twice.

    Args:
      bins: rows of a spectrogram, a multiple of 4.
      symbols: that the head tells apart, the blank among them.
    """

    def __init__(self, bins: int, symbols: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, CHANNELS, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=(2, 1), padding=1)
        self.linear_in = nn.Linear(CHANNELS * bins // 4, WIDTH)
        self.lstms = nn.ModuleList(NormalisedLstm(WIDTH) for _ in range(LSTMS))
        self.linears = nn.ModuleList(NormalisedLinear(WIDTH) for _ in range(LINEARS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, symbols)
        initialise(self)
        for layer in (self.conv1, self.conv2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # there is one

    def forward(self, inputs: torch.Tensor, dropout_rate: float = 0.0) -> torch.Tensor:
        """Spectrograms [batch, bins, columns] to logits [batch, columns / 2, symbols]."""
        maps = F.relu(self.conv2(F.relu(self.conv1(inputs[:, None]))))
        x = self.linear_in(maps.permute(0, 3, 2, 1).flatten(2))
        x = replicas.dropout(x, dropout_rate, self.training)
        for lstm in self.lstms:
            x = x + lstm(x)
        for linear in self.linears:
            x = x + replicas.dropout(linear(x), dropout_rate, self.training)
        logits: torch.Tensor = self.head(self.norm(x))
        return logits
