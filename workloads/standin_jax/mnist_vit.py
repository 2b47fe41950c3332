"""`mnist_vit` in JAX."""

from jax import Array

from workloads.standin import mnist_vit
from workloads.standin.mnist_digits import SIDE
from workloads.standin.mnist_vit import DEPTH, HEADS, PATCH
from workloads.standin_jax.base import JaxWorkload
from workloads.standin_jax.layers import Network


class MnistVitWorkload(JaxWorkload, mnist_vit.MnistVitWorkload):
    """Image classification by a vision transformer."""

    def logits(self, network: Network, inputs: Array) -> Array:
        """Images [batch, 1, 28, 28] to logits [batch, 10]."""
        grid = SIDE // PATCH
        tiles = inputs.reshape(-1, grid, PATCH, grid, PATCH).swapaxes(2, 3)
        tokens = network.linear("patches", tiles.reshape(-1, grid * grid, PATCH * PATCH))
        mixed = network.transformer("transformer", tokens, DEPTH, HEADS, causal=False)
        return network.linear("head", mixed.mean(1))
