"""Run by `test_sharding` in a process with eight CPU devices; prints what happened as JSON."""

import json
import re
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from submission.shampoo_jax import evaluated, shampoo, state_shardings

SHAPES = {"kernel": (23, 5), "other": (5, 10), "bias": (7,), "table": (8192, 8)}
LANES, STEPS = 8, 4
OPTIONS: dict[str, Any] = {
    "block_size": 5,
    "max_dim": 64,
    "refresh_interval": 3,
    "weight_decay": 0.1,
    "lanes": LANES,
}


def draw(seed: int) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=s)) for name, s in SHAPES.items()}


class Run:
    """Some steps on the first `devices`.

    Attributes:
      figures: what is asked of them.
      weights, state: after them.
    """

    def __init__(self, devices: int, **options: Any) -> None:
        mesh = jax.sharding.Mesh(jax.devices()[:devices], ("data",))
        optimizer = shampoo(0.1, mesh=mesh, **{**OPTIONS, **options})

        def step(weights: Any, state: Any, grads: Any) -> Any:
            updates, state = optimizer.update(grads, state, weights)
            return optax.apply_updates(weights, updates), state

        self.everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        self.weights = jax.device_put(draw(0), self.everywhere)
        self.state = jax.jit(optimizer.init)(self.weights)
        self.shardings = state_shardings(self.state, mesh)
        born = jax.tree.map(
            lambda array, sharding: array.sharding.is_equivalent_to(sharding, array.ndim),
            self.state,
            self.shardings,
        )
        jitted = jax.jit(step, donate_argnums=1, out_shardings=(self.everywhere, self.shardings))
        self.step = jitted.lower(self.weights, self.state, self.weights).compile()
        for number in range(STEPS):
            self.advance(number + 1)
        divided = jax.tree.leaves((self.state.stacks, self.state.leaves["3"]))
        shards = [shard for array in divided for shard in array.addressable_shards]
        text = self.step.as_text()
        self.figures = {
            "born divided": all(jax.tree.leaves(born)),
            "bytes": sum(shard.data.nbytes for shard in shards if shard.device.id == 0),
            "collectives": re.findall(r" (all-\w+|reduce-scatter|collective-\w+)\(", text),
        }

    def advance(self, seed: int) -> None:
        """One more step."""
        grads = jax.device_put(draw(seed), self.everywhere)
        self.weights, self.state = self.step(self.weights, self.state, grads)

    def take_over(self, other: "Run") -> None:
        """Goes on from where a run on other devices is, by way of the host as from a checkpoint."""
        weights, state = jax.tree.map(np.array, (other.weights, other.state))
        self.weights = jax.device_put(weights, self.everywhere)
        self.state = jax.device_put(state, self.shardings)

    def difference(self, other: "Run") -> float:
        """The largest, of any weight."""
        pairs = zip(*map(jax.tree.leaves, (self.weights, other.weights)), strict=True)
        return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


def explicit(devices: int) -> tuple[dict[str, jax.Array], list[list[str | None]]]:
    """The averages that evaluation reads after a run on a mesh with explicit axes.

    And where the table's average and update and the largest stack's factors lie.
    """
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Explicit,))
    optimizer = shampoo(0.1, mesh=mesh, averaging="ema", **OPTIONS)
    specs = {name: P("data") if name == "table" else P() for name in SHAPES}
    places = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}

    @jax.jit
    def step(weights: Any, state: Any, grads: Any) -> Any:
        updates, state = optimizer.update(grads, state, weights)
        return optax.apply_updates(weights, updates), state, updates

    weights = jax.device_put(draw(0), places)
    state = optimizer.init(weights)
    for number in range(STEPS):
        weights, state, updates = step(weights, state, jax.device_put(draw(number + 1), places))
    assert state.average is not None
    arrays = state.average.average["table"], updates["table"], state.stacks["5x5"]["left"]
    return evaluated(state, weights), [list(array.sharding.spec) for array in arrays]


def main() -> None:
    assert jax.device_count() == 8
    runs = {devices: Run(devices) for devices in (1, 2, 4, 8)}
    results: dict[str, Any] = {
        str(devices): {**run.figures, "difference": run.difference(runs[1])}
        for devices, run in runs.items()
    }
    runs[2].take_over(runs[8])
    runs[2].advance(STEPS + 1)
    runs[8].advance(STEPS + 1)
    results["after moving"] = runs[2].difference(runs[8])
    grafted = {"method": "kl_shampoo", "grafting": "adam"}
    results["grafted"] = Run(8, **grafted).difference(Run(1, **grafted))
    alone, divided = explicit(1), explicit(4)
    results["explicit"] = max(
        float(np.abs(np.asarray(alone[0][name]) - np.asarray(divided[0][name])).max())
        for name in SHAPES
    )
    own = Run(1, averaging="ema")
    results["explicit, automatic"] = max(
        float(np.abs(np.asarray(alone[0][name]) - np.asarray(weights)).max())
        for name, weights in evaluated(own.state, own.weights).items()
    )
    results["places"] = divided[1]
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
