"""`stdlib_lm` in JAX."""

from jax import Array

from workloads.standin import stdlib_lm
from workloads.standin.stdlib_lm import DEPTH, HEADS
from workloads.standin_jax.base import JaxWorkload
from workloads.standin_jax.layers import Network


class StdlibLmWorkload(JaxWorkload, stdlib_lm.StdlibLmWorkload):
    """Next-byte prediction."""

    def logits(self, network: Network, inputs: Array) -> Array:
        """Bytes [batch, tokens] to logits [batch, tokens, 256]."""
        tokens = network.embedding("token_embedding", inputs)
        mixed = network.transformer("transformer", tokens, DEPTH, HEADS, causal=True)
        return network.linear("head", mixed)
