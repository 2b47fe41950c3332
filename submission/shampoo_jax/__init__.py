"""Shampoo for JAX: gradient transformations in the style of optax, pure under `jax.jit`.

>>> import jax
>>> import jax.numpy as jnp
>>> import optax
>>> from submission.shampoo_jax import shampoo
>>> params = {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)}
>>> optimizer = shampoo(learning_rate=1e-3, weight_decay=0.01)
>>> state = optimizer.init(params)
>>> grads = params
>>> updates, state = jax.jit(optimizer.update)(grads, state, params)
>>> params = optax.apply_updates(params, updates)

Options, blocks and the order of refreshes are those of `plan`, so that the PyTorch version with the
same arguments takes the same steps on the same matrices. `shampoo` is its class `Shampoo`; its
preset of that name is `nesterov=True, refresh_interval=20, damping=1e-6` here. docs/jax.md lists
what only one of them has.
"""

from .averaging import evaluated
from .options import static_arguments
from .presets import algoperf_winner, kl_shampoo, soap
from .shampoo import scale_by_shampoo, shampoo
from .sharding import state_shardings
from .states import ShampooState

__all__ = [
    "ShampooState",
    "algoperf_winner",
    "evaluated",
    "kl_shampoo",
    "scale_by_shampoo",
    "shampoo",
    "soap",
    "state_shardings",
    "static_arguments",
]
