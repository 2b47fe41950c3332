"""`stdlib_lm` in JAX."""

from jax import Array

from workloads.standin import stdlib_lm
from workloads.standin_jax.base import JaxWorkload
from workloads.standin_jax.layers import Network

# As `LanguageModel` has them.
DEPTH, HEADS = 2, 4


class StdlibLmWorkload(JaxWorkload, stdlib_lm.StdlibLmWorkload):
    """Next-byte prediction."""

    def logits(self, network: Network, inputs: Array) -> Array:
        """Bytes [batch, tokens] to logits [batch, tokens, 256]."""
        tokens = network.embedding("token_embedding", inputs)
        mixed = network.transformer("transformer", tokens, DEPTH, HEADS, causal=True)
        return network.linear("head", mixed)
