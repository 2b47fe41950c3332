"""A pre-norm transformer, for images and for text."""

import torch
import torch.nn.functional as F
from torch import nn

from workloads.standin import replicas


def initialise(model: nn.Module) -> None:
    """Glorot-uniform matrices, zero biases, embeddings with standard deviation 0.2."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.2)


class SelfAttention(nn.Module):
    """Multi-head self-attention on [batch, tokens, width]."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        qkv = self.in_proj(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Attention and a GELU MLP, each on a normalised input and added to its residual."""

    def __init__(self, width: int, heads: int, mlp_width: int, causal: bool) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, causal)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, mlp_width)
        self.mlp_out = nn.Linear(mlp_width, width)

    def forward(self, x: torch.Tensor, dropout_rate: float) -> torch.Tensor:
        mixed = self.attention(self.norm_attention(x))
        x = x + replicas.dropout(mixed, dropout_rate, self.training)
        hidden = self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x))))
        return x + replicas.dropout(hidden, dropout_rate, self.training)


class Transformer(nn.Module):
    """Blocks and a last norm over token vectors with learnt positions.

    Args:
      tokens: number of positions.
      width: size of a token vector, a multiple of `heads`.
      depth, heads, mlp_width: blocks, heads per block, hidden units per MLP.
      causal: whether a token sees only its predecessors.
    """

    def __init__(
        self, tokens: int, width: int, depth: int, heads: int, mlp_width: int, causal: bool
    ) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(tokens, width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_width, causal) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, dropout_rate: float) -> torch.Tensor:
        """[batch, tokens, width] to the same shape; `tokens` may be fewer than the positions."""
        x = x + self.position_embedding.weight[: x.shape[1]]
        x = replicas.dropout(x, dropout_rate, self.training)
        for block in self.blocks:
            x = block(x, dropout_rate)
        return self.norm(x)
