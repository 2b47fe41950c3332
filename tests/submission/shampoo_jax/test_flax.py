"""flax's training states, flax's and orbax's checkpoints: runs go on as if never interrupted."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from submission.shampoo_jax import shampoo

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their own dependencies
    linen = pytest.importorskip("flax.linen", reason="flax is not installed")
    from flax import nnx, serialization
    from flax.training.train_state import TrainState

pytestmark = pytest.mark.filterwarnings("default")

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4)), jnp.float32)
OPTIONS = {
    "weight_decay": 0.1,
    "momentum": 0.5,
    "decay_mode": "independent",
    "averaging": "schedule_free",
    "refresh_interval": 2,
    "factor_dtype": "bfloat16",
}


def loss(outputs):
    return jnp.square(outputs - jnp.sin(IMAGES.sum(1, keepdims=True))).mean()


@pytest.fixture(scope="module")
def start():
    network = linen.Sequential([linen.Dense(3), linen.tanh, linen.Dense(1)])
    params = network.init(jax.random.key(0), IMAGES)["params"]
    return TrainState.create(apply_fn=network.apply, params=params, tx=shampoo(0.1, **OPTIONS))


@jax.jit
def step(state):
    grads = jax.grad(lambda params: loss(state.apply_fn({"params": params}, IMAGES)))
    return state.apply_gradients(grads=grads(state.params))


def train(state):
    return step(step(state))


@pytest.fixture(scope="module")
def trained(start):
    return train(start)


def same(first, second):
    """Whether two training states are, with their structures and dtypes, bit for bit."""
    assert jax.tree.structure(first) == jax.tree.structure(second)
    pairs = list(zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))
    assert [left.dtype for left, _ in pairs] == [right.dtype for _, right in pairs]
    return all(np.array_equal(left, right) for left, right in pairs)


def test_a_train_state_learns(start, trained):
    def value(state):
        return loss(state.apply_fn({"params": state.params}, IMAGES))

    assert value(trained) < value(start)
    assert trained.opt_state.count == trained.step == 2


def test_goes_on_from_bytes(start, trained):
    loaded = serialization.from_bytes(start, serialization.to_bytes(trained))
    assert same(train(loaded), train(trained))


def test_goes_on_from_orbax(start, trained, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint = pytest.importorskip("orbax.checkpoint", reason="orbax is not installed")
    saved = {"params": trained.params, "opt_state": trained.opt_state, "step": trained.step}
    with checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", saved)
        checkpointer.wait_until_finished()
        loaded = checkpointer.restore(tmp_path / "state", saved)
    assert same(train(start.replace(**loaded)), train(trained))


def test_nnx_trains():
    """And functions of a path get the same at init, where nnx boxes parameters, and at updates."""
    paths = set()

    def split(path, shape):
        paths.add(path)
        return (2,) * (shape[0] // 2)

    network = nnx.Sequential(
        nnx.Linear(4, 4, rngs=nnx.Rngs(0)), jnp.tanh, nnx.Linear(4, 1, rngs=nnx.Rngs(1))
    )
    optimizer = nnx.Optimizer(network, shampoo(0.1, split=split), wrt=nnx.Param)

    @nnx.jit
    def step(network, optimizer):
        value, grads = nnx.value_and_grad(lambda network: loss(network(IMAGES)))(network)
        optimizer.update(network, grads)
        return value

    values = [step(network, optimizer) for _ in range(3)]
    assert values[-1] < values[0]
    assert paths == {"layers/0/kernel"}
