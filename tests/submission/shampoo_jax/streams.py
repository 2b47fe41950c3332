"""Random gradients for both frameworks, and how far their weights end up from one another."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from submission.plan.options import ShampooOptions
from submission.plan.reference import ReferenceGroup
from submission.shampoo import Shampoo
from submission.shampoo_jax import evaluated, shampoo
from submission.shampoo_jax.geometry import matrices_of
from submission.shampoo_jax.options import resolve

# A vector, a scalar, a matrix of several blocks, a convolution's kernel, a table.
SHAPES = ((7,), (), (9, 4), (1, 2, 2, 8), (70, 3))
# With blocks of one shape alone, which compile in half the time.
EVEN = ((7,), (), (8, 4), (1, 2, 2, 8), (70, 3))
OPTIONS = {
    "block_size": 5,
    "max_dim": 64,
    "damping": 1e-3,
    "refresh_interval": 3,
    "weight_decay": 0.1,
}
BETAS = (0.9, 0.99)
LR = 0.01


@contextmanager
def double_precision() -> Iterator[None]:
    """Arrays and operations of JAX may be in float64."""
    enable = getattr(jax, "enable_x64", None)
    if enable is None:
        from jax.experimental import enable_x64 as enable
    with enable(True):
        yield


def draw(seed: int, shapes: Any = SHAPES) -> list[np.ndarray]:
    """Arrays whose scales differ."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=shape)) * np.exp(rng.normal()) for shape in shapes]


def stepping(transformation: Any) -> Any:
    """A compiled step: (weights, state, gradients) to weights and state."""

    @jax.jit
    def step(weights: Any, state: Any, grads: Any) -> Any:
        updates, state = transformation.update(grads, state, weights)
        return optax.apply_updates(weights, updates), state

    return step


def worst_difference(
    options: dict[str, Any] | None = None,
    steps: int = 60,
    shapes: Any = SHAPES,
    spoilt: Collection[int] = (5, 20),
    has_oracle: bool = True,
) -> float:
    """The largest difference to a weight of PyTorch or of the oracle over all steps, in float64.

    Args:
      options: of both, besides `OPTIONS`, with "lr" and "betas" as in PyTorch.
      spoilt: steps whose gradients have a NaN.
      has_oracle: whether the oracle has these options.
    """
    options = {**OPTIONS, **(options or {})}
    lr, betas = options.pop("lr", LR), options.pop("betas", BETAS)
    with double_precision():
        transformation = shampoo(lr, *betas, **options)
        peer_options = {"lr": lr, "betas": betas, **options}
        return _worst(transformation, peer_options, steps, shapes, spoilt, has_oracle)


def _worst(
    transformation: Any, options: Any, steps: int, shapes: Any, spoilt: Any, has_oracle: bool
) -> float:
    start = draw(0, shapes)
    weights = [jnp.asarray(value) for value in start]
    state, step = jax.jit(transformation.init)(weights), stepping(transformation)
    twins = [torch.nn.Parameter(torch.as_tensor(as_matrix(value))) for value in start]
    optimizer = Shampoo(twins, **options)
    oracle = None
    if has_oracle:
        oracle = ReferenceGroup([as_matrix(value) for value in start], ShampooOptions(**options))
    worst = 0.0
    for number in range(steps):
        grads = draw(number + 1, shapes)
        if number in spoilt:
            grads[2].flat[3] = np.nan
        for twin, grad in zip(twins, grads, strict=True):
            twin.grad = torch.as_tensor(as_matrix(grad))
        optimizer.step()
        weights, state = step(weights, state, [jnp.asarray(grad) for grad in grads])
        worst = max(worst, difference(weights, [twin.detach().numpy() for twin in twins]))
        if oracle is not None:
            oracle.step([as_matrix(grad) for grad in grads])
            worst = max(worst, difference(weights, [peer.weight for peer in oracle.parameters]))
    optimizer.eval()
    weights = evaluated(state, weights)
    worst = max(worst, difference(weights, [twin.detach().numpy() for twin in twins]))
    if oracle is not None:
        worst = max(worst, difference(weights, [peer.evaluated() for peer in oracle.parameters]))
    assert state.skipped == len(spoilt)
    return worst


def as_matrix(value: np.ndarray) -> np.ndarray:
    """A copy, a kernel of four dimensions as the matrix that JAX's version takes it for."""
    if value.ndim < 3:
        return value.copy()
    return value.reshape(matrices_of("", value.shape, resolve({}))[1:]).copy()


def difference(weights: Any, twins: Any) -> float:
    """The largest, over all weights."""
    pairs = zip(weights, twins, strict=True)
    return max(float(np.abs(as_matrix(np.asarray(weight)) - twin).max()) for weight, twin in pairs)
