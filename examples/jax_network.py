"""Trains a network in JAX, on scikit-learn's images of digits.

python examples/jax_network.py
python examples/jax_network.py --optimizer=adamw
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from stacked_shampoo.jax import shampoo

Parameters = dict[str, dict[str, jax.Array]]


def initial_parameters(key: jax.Array) -> Parameters:
    """A convolution's kernel [3, 3, 1, 32] and two layers', with biases."""
    shapes = {"conv": (3, 3, 1, 32), "hidden": (512, 128), "output": (128, 10)}
    keys = jax.random.split(key, len(shapes))
    parameters = {}
    for subkey, (name, shape) in zip(keys, shapes.items(), strict=True):
        kernel = jax.random.normal(subkey, shape) * np.prod(shape[:-1]) ** -0.5
        parameters[name] = {"kernel": kernel, "bias": jnp.zeros(shape[-1])}
    return parameters


def logits(parameters: Parameters, images: jax.Array) -> jax.Array:
    """Of 10 classes, for images [N, 8, 8, 1]."""
    conv, hidden, output = (parameters[name] for name in ("conv", "hidden", "output"))
    dimensions = ("NHWC", "HWIO", "NHWC")
    x = jax.lax.conv_general_dilated(images, conv["kernel"], (1, 1), "SAME", None, None, dimensions)
    x = jax.nn.relu(x + conv["bias"])
    x = x.reshape(len(x), 4, 2, 4, 2, 32).max((2, 4)).reshape(len(x), -1)
    x = jax.nn.relu(x @ hidden["kernel"] + hidden["bias"])
    return x @ output["kernel"] + output["bias"]


def loss(parameters: Parameters, images: jax.Array, labels: jax.Array) -> jax.Array:
    given = logits(parameters, images), labels
    return optax.softmax_cross_entropy_with_integer_labels(*given).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a small network on images of digits.")
    parser.add_argument("--optimizer", choices=["shampoo", "adamw"], default="shampoo")
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--epochs", type=int, default=5)
    flags = parser.parse_args()
    if flags.epochs < 1:
        parser.error(f"--epochs={flags.epochs}: must be at least 1")

    order = np.random.default_rng(0).permutation(1797)
    loaded = load_digits()
    images = jnp.asarray(loaded.images[order, :, :, None] / 16, jnp.float32)
    labels = jnp.asarray(loaded.target[order])
    parameters = initial_parameters(jax.random.key(0))
    # The same arguments for both: keep AdamW's learning rate, weight decay and schedule.
    kind = {"shampoo": shampoo, "adamw": optax.adamw}[flags.optimizer]
    schedule = optax.cosine_onecycle_schedule(flags.epochs * 23, flags.lr)
    optimizer = kind(schedule, weight_decay=0.01)
    state = optimizer.init(parameters)

    @jax.jit
    def step(parameters, state, images, labels):
        value, grads = jax.value_and_grad(loss)(parameters, images, labels)
        updates, state = optimizer.update(grads, state, parameters)
        return optax.apply_updates(parameters, updates), state, value

    for epoch in range(1, flags.epochs + 1):
        for batch in np.random.default_rng(epoch).permutation(1472).reshape(23, 64):
            parameters, state, value = step(parameters, state, images[batch], labels[batch])
        right = logits(parameters, images[1500:]).argmax(1) == labels[1500:]
        print(f"epoch {epoch}: loss {value:.4f}, test accuracy {right.mean():.3f}")


if __name__ == "__main__":
    main()
