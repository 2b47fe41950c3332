"""`mnist_resnet` in JAX."""

import jax
from jax import Array

from workloads.standin import mnist_resnet
from workloads.standin.mnist_resnet import WIDTHS
from workloads.standin_jax.base import JaxWorkload
from workloads.standin_jax.layers import Network


class MnistResnetWorkload(JaxWorkload, mnist_resnet.MnistResnetWorkload):
    """Image classification by a residual network."""

    def logits(self, network: Network, inputs: Array) -> Array:
        """Images [batch, 1, 28, 28] to logits [batch, 10]."""
        hidden = network.convolution("stem_conv", inputs, stride=2, padding=1)
        hidden = jax.nn.relu(network.batch_norm("stem_batch_norm", hidden))
        for stage in range(len(WIDTHS)):
            hidden = _block(network, f"stages.{stage}", hidden, stride=2 if stage else 1)
        return network.linear("head", network.dropout(hidden.mean((2, 3))))


def _block(network: Network, name: str, x: Array, stride: int) -> Array:
    hidden = network.convolution(f"{name}.conv_1", x, stride, padding=1)
    hidden = jax.nn.relu(network.batch_norm(f"{name}.batch_norm_1", hidden))
    hidden = network.convolution(f"{name}.conv_2", hidden, stride=1, padding=1)
    hidden = network.batch_norm(f"{name}.batch_norm_2", hidden)
    if f"{name}.shortcut.conv.weight" in network.params:
        x = network.convolution(f"{name}.shortcut.conv", x, stride, padding=0)
        x = network.batch_norm(f"{name}.shortcut.batch_norm", x)
    return jax.nn.relu(hidden + x)
