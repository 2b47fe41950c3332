"""`flights_dlrm` in JAX."""

import jax
import jax.numpy as jnp
from jax import Array

from workloads.standin import flights_dlrm
from workloads.standin.flights_dlrm import BOTTOM, NUMERIC, TABLE_SIZES, TOP
from workloads.standin_jax.base import JaxWorkload
from workloads.standin_jax.layers import Network


class FlightsDlrmWorkload(JaxWorkload, flights_dlrm.FlightsDlrmWorkload):
    """Click-through-like binary prediction."""

    def logits(self, network: Network, inputs: Array) -> Array:
        """Features [batch, numeric + categorical] to logits [batch]."""
        dense = inputs[:, : len(NUMERIC)]
        for number in range(len(BOTTOM)):
            dense = jax.nn.relu(network.linear(f"bottom.{number}", dense))
        looked_up = [
            network.embedding(f"embeddings.{name}", inputs[:, len(NUMERIC) + column])
            for column, name in enumerate(TABLE_SIZES)
        ]
        vectors = jnp.stack([dense, *looked_up], axis=1)
        products = vectors @ vectors.swapaxes(1, 2)
        first, second = jnp.triu_indices(vectors.shape[1], 1)
        hidden = jnp.concatenate([dense, products[:, first, second]], axis=1)
        for number in range(len(TOP)):
            hidden = network.dropout(jax.nn.relu(network.linear(f"top.{number}", hidden)))
        return network.linear("head", hidden)[:, 0]
