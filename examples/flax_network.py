"""Trains a flax network on scikit-learn's images of digits, saves its state and goes on from it.

python examples/flax_network.py --epochs=2 --save=state.msgpack
python examples/flax_network.py --epochs=4 --resume=state.msgpack
"""

import argparse
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
from flax import serialization
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits
from stacked_shampoo.jax import shampoo

BATCHES = 23


class Network(nn.Module):
    """Logits [N, 10] of images [N, 8, 8, 1]."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = nn.max_pool(nn.relu(nn.Conv(32, (3, 3))(images)), (2, 2), (2, 2))
        x = nn.relu(nn.Dense(128)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


@jax.jit
def train_step(
    state: TrainState, images: jax.Array, labels: jax.Array
) -> tuple[TrainState, jax.Array]:
    """The state after one step, and the loss before it."""

    def loss(params):
        logits = state.apply_fn({"params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    value, grads = jax.value_and_grad(loss)(state.params)
    return state.apply_gradients(grads=grads), value


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a flax network on images of digits.")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--epochs", type=int, default=5, help="in all, those before --resume too")
    parser.add_argument("--save", type=Path, help="file for the state at the end")
    parser.add_argument("--resume", type=Path, help="file to go on from")
    flags = parser.parse_args()

    order = np.random.default_rng(0).permutation(1797)
    loaded = load_digits()
    images = (loaded.images[order, :, :, None] / 16).astype(np.float32)
    labels = loaded.target[order].astype(np.int32)
    network = Network()
    params = network.init(jax.random.key(0), images[:1])["params"]
    optimizer = shampoo(flags.lr, weight_decay=0.01)
    state = TrainState.create(apply_fn=network.apply, params=params, tx=optimizer)
    if flags.resume:
        state = serialization.from_bytes(state, flags.resume.read_bytes())

    first = int(state.step) // BATCHES + 1
    if flags.epochs < first:
        parser.error(f"--epochs={flags.epochs}: must be at least {first}")
    for epoch in range(first, flags.epochs + 1):
        for batch in np.random.default_rng(epoch).permutation(1472).reshape(BATCHES, 64):
            state, value = train_step(state, images[batch], labels[batch])
        logits = state.apply_fn({"params": state.params}, images[1500:])
        accuracy = (logits.argmax(1) == labels[1500:]).mean()
        print(f"epoch {epoch}: loss {value:.6f}, test accuracy {accuracy:.3f}")
    if flags.save:
        flags.save.write_bytes(serialization.to_bytes(state))


if __name__ == "__main__":
    main()
