"""A pre-norm transformer, for images, for text, and for text that depends on another one."""

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

    def forward(self, x: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """The same shape; `visible` [batch, 1, 1, tokens] is False where no token may look."""
        batch, tokens, width = x.shape
        qkv = self.in_proj(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=visible, is_causal=self.causal
        )
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class CrossAttention(nn.Module):
    """Multi-head attention of [batch, tokens, width] to a memory [batch, others, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.kv_proj = nn.Linear(width, 2 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, memory: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """The shape of `x`; `visible` [batch, 1, 1, others] is False where no token may look."""
        batch, tokens, width = x.shape
        query = self.q_proj(x).view(batch, tokens, self.heads, width // self.heads)
        pairs = self.kv_proj(memory).view(batch, -1, 2, self.heads, width // self.heads)
        key, value = pairs.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query.transpose(1, 2), key, value, visible)
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

    def forward(
        self, x: torch.Tensor, dropout_rate: float, visible: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self._mlp(self._attend(x, dropout_rate, visible), dropout_rate)

    def _attend(
        self, x: torch.Tensor, dropout_rate: float, visible: torch.Tensor | None
    ) -> torch.Tensor:
        mixed = self.attention(self.norm_attention(x), visible)
        return x + replicas.dropout(mixed, dropout_rate, self.training)

    def _mlp(self, x: torch.Tensor, dropout_rate: float) -> torch.Tensor:
        hidden = self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x))))
        return x + replicas.dropout(hidden, dropout_rate, self.training)


class DecoderBlock(Block):
    """A causal block that attends to a memory between its own attention and its MLP."""

    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__(width, heads, mlp_width, causal=True)
        self.norm_cross_attention = nn.LayerNorm(width)
        self.cross_attention = CrossAttention(width, heads)

    def forward(  # type: ignore[override]
        self, x: torch.Tensor, dropout_rate: float, memory: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        x = self._attend(x, dropout_rate, None)
        mixed = self.cross_attention(self.norm_cross_attention(x), memory, visible)
        x = x + replicas.dropout(mixed, dropout_rate, self.training)
        return self._mlp(x, dropout_rate)


class Transformer(nn.Module):
    """Blocks and a last norm over token vectors with learnt positions.

    Args:
      tokens: number of positions.
      width: size of a token vector, a multiple of `heads`.
      depth, heads, mlp_width: blocks, heads per block, hidden units per MLP.
      causal: whether a token sees only its predecessors.
      decodes: whether the blocks attend to a memory, too; they are causal then.
    """

    def __init__(
        self,
        tokens: int,
        width: int,
        depth: int,
        heads: int,
        mlp_width: int,
        causal: bool,
        decodes: bool = False,
    ) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(tokens, width)
        self.blocks = nn.ModuleList(
            DecoderBlock(width, heads, mlp_width)
            if decodes
            else Block(width, heads, mlp_width, causal)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, dropout_rate: float, *context: torch.Tensor) -> torch.Tensor:
        """[batch, tokens, width] to the same shape; `tokens` may be fewer than the positions.

        What follows the dropout rate goes to the blocks: nothing, or which tokens are `visible`;
        in a decoder the memory and which of its tokens are.
        """
        x = x + self.position_embedding.weight[: x.shape[1]]
        x = replicas.dropout(x, dropout_rate, self.training)
        for block in self.blocks:
            x = block(x, dropout_rate, *context)
        return self.norm(x)
