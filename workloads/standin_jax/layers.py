"""Layers on weights with the names and shapes of PyTorch's, so that both start from the same."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

# As in PyTorch.
NORM_EPS = 1e-5
STATISTICS_MOMENTUM = 0.1


@dataclasses.dataclass
class Network:
    """A forward pass over weights and running statistics.

    Attributes:
      params: weights by the names of PyTorch's modules.
      statistics: running means and variances by name; those of this pass replace them.
      training: whether batches normalise themselves and units are dropped.
      dropout_rate: the probability of each.
      key: of the masks; None to drop nothing.
      masks: drawn so far.
    """

    params: Mapping[str, Array]
    statistics: dict[str, Array]
    training: bool = False
    dropout_rate: float = 0.0
    key: Array | None = None
    masks: int = 0

    def linear(self, name: str, x: Array) -> Array:
        """[..., inputs] to [..., outputs]; without a bias if there is none of that name."""
        x = x @ self.params[f"{name}.weight"].T
        bias = self.params.get(f"{name}.bias")
        return x if bias is None else x + bias

    def embedding(self, name: str, rows: Array) -> Array:
        """Rows [...] of a table, of any integer or whole numbers, to vectors [..., width]."""
        return self.params[f"{name}.weight"][rows.astype(jnp.int32)]

    def layer_norm(self, name: str, x: Array) -> Array:
        """Each vector [..., width] to mean 0 and variance 1, then scaled and shifted."""
        mean = x.mean(-1, keepdims=True)
        variance = jnp.square(x - mean).mean(-1, keepdims=True)
        normalised = (x - mean) * lax.rsqrt(variance + NORM_EPS)
        return normalised * self.params[f"{name}.weight"] + self.params[f"{name}.bias"]

    def batch_norm(self, name: str, x: Array) -> Array:
        """Each channel of [batch, channels, height, width], by its batch or by what was running."""
        if self.training:
            count = x.size // x.shape[1]
            mean = x.mean((0, 2, 3))
            variance = jnp.square(x - mean[:, None, None]).mean((0, 2, 3))
            unbiased = variance * (count / max(count - 1, 1))
            for part, value in (("mean", mean), ("var", unbiased)):
                running = self.statistics[f"{name}.running_{part}"]
                moved = running + STATISTICS_MOMENTUM * (value - running)
                self.statistics[f"{name}.running_{part}"] = moved
        else:
            mean = self.statistics[f"{name}.running_mean"]
            variance = self.statistics[f"{name}.running_var"]
        scale = self.params[f"{name}.weight"] * lax.rsqrt(variance + NORM_EPS)
        shift = self.params[f"{name}.bias"] - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]

    def convolution(self, name: str, x: Array, stride: int, padding: int) -> Array:
        """[batch, inputs, height, width] to [batch, outputs, ...], without a bias."""
        kernel = self.params[f"{name}.weight"]
        around = [(padding, padding)] * 2
        return lax.conv_general_dilated(x, kernel, (stride, stride), around)

    def dropout(self, x: Array) -> Array:
        """Zeros at random, each with a mask of its own, and the rest scaled up."""
        if not self.training or self.key is None or self.dropout_rate == 0:
            return x
        self.masks += 1
        kept = jax.random.bernoulli(
            jax.random.fold_in(self.key, self.masks), 1 - self.dropout_rate, x.shape
        )
        return jnp.where(kept, x / (1 - self.dropout_rate), 0.0)

    def transformer(self, name: str, x: Array, depth: int, heads: int, causal: bool) -> Array:
        """Pre-norm blocks and a last norm over token vectors [batch, tokens, width]."""
        tokens = x.shape[1]
        x = self.dropout(x + self.params[f"{name}.position_embedding.weight"][:tokens])
        visible = jnp.tril(jnp.ones((tokens, tokens), bool)) if causal else None
        for number in range(depth):
            block = f"{name}.blocks.{number}"
            mixed = self._attention(
                f"{block}.attention", self.layer_norm(f"{block}.norm_attention", x), heads, visible
            )
            x = x + self.dropout(mixed)
            hidden = self.linear(f"{block}.mlp_in", self.layer_norm(f"{block}.norm_mlp", x))
            hidden = self.linear(f"{block}.mlp_out", jax.nn.gelu(hidden, approximate=False))
            x = x + self.dropout(hidden)
        return self.layer_norm(f"{name}.norm", x)

    def _attention(self, name: str, x: Array, heads: int, visible: Array | None) -> Array:
        batch, tokens, width = x.shape
        qkv = self.linear(f"{name}.in_proj", x).reshape(batch, tokens, 3, heads, width // heads)
        query, key, value = (qkv[:, :, part] for part in range(3))
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / (width // heads) ** 0.5
        if visible is not None:
            scores = jnp.where(visible, scores, -jnp.inf)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), value)
        return self.linear(f"{name}.out_proj", mixed.reshape(batch, tokens, width))


def cross_entropy(targets: Array, logits: Array, label_smoothing: float) -> Array:
    """Of integer classes [...] against [..., classes], smoothed as PyTorch does."""
    logs = jax.nn.log_softmax(logits, axis=-1)
    chosen = jnp.take_along_axis(logs, targets.astype(jnp.int32)[..., None], axis=-1)[..., 0]
    return -(1 - label_smoothing) * chosen - label_smoothing * logs.mean(-1)


def binary_cross_entropy(targets: Array, logits: Array, label_smoothing: float) -> Array:
    """Of labels from 0 to 1 against logits, both [...]."""
    soft: Any = targets * (1 - label_smoothing) + label_smoothing / 2
    return jnp.maximum(logits, 0) - logits * soft + jnp.log1p(jnp.exp(-jnp.abs(logits)))
