"""Runs the benchmark's runner with a restore that works under JAX.

    python mended_runner.py CHECKOUT/submission_runner.py FLAG...

The runner's own (commits 2c90454f and 58491177) fails with every entry in JAX: it asks for the
evaluations in the place of a None, gets a None, and reads it. Beyond that it would give every array
a leading dimension, of the devices. Saving works, and is left as it is.

Run by the benchmark's Python; it imports nothing of this project.
"""

import importlib
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def restored(
    framework: str,
    optimizer_state: Any,
    model_params: Any,
    model_state: Any,
    train_state: dict[str, Any],
    eval_results: list[Any],
    global_step: int,
    preemption_count: int,
    checkpoint_dir: str,
) -> tuple[Any, ...]:
    """What the runner goes on with: its newest checkpoint, or what it begins with if it has none.

    Arrays lie where those lie that the runner begins with, so that compiled steps take them.

    Args:
      framework: always JAX.
      optimizer_state: a pair, of which the first is in checkpoints.
      model_params, model_state, train_state, eval_results, global_step, preemption_count: as the
        runner begins with them.
      checkpoint_dir: the trial's folder.

    Returns:
      The arguments but for the first and the last, in their order.
    """
    from flax.training import checkpoints

    state, moves = optimizer_state
    begun = (model_params, model_state, train_state, eval_results, global_step, preemption_count)
    if checkpoints.latest_checkpoint(checkpoint_dir) is None:
        return (optimizer_state, *begun)
    # As nested dicts, from which the numbers are taken; and in the structure that arrays have.
    plain = checkpoints.restore_checkpoint(checkpoint_dir, target=None)
    results = [
        (int(step), {name: _number(value) for name, value in metrics.items()})
        for step, metrics in map(_members, _members(plain["eval_results"]))
    ]
    numbers = {name: plain[name] for name in ("train_state", "global_step", "preemption_count")}
    arrays = {"model_params": model_params, "optimizer_state": state, "model_state": model_state}
    target = {**numbers, **arrays, "eval_results": tuple(results)}
    saved = checkpoints.restore_checkpoint(checkpoint_dir, target=target)
    placed = {name: _placed(saved[name], like) for name, like in arrays.items()}
    return (
        (placed["optimizer_state"], moves),
        placed["model_params"],
        placed["model_state"],
        {name: _number(value) for name, value in plain["train_state"].items()},
        results,
        _number(plain["global_step"]),
        _number(plain["preemption_count"]) + 1,
    )


def _members(node: Any) -> Iterator[Any]:
    """Of a sequence, which a restore without a target may turn into a dict by indices."""
    if isinstance(node, dict):
        return iter([node[name] for name in sorted(node, key=int)])
    return iter(node)


def _number(value: Any) -> Any:
    """A Python number, which an array of no dimensions may stand for."""
    return value.item() if hasattr(value, "item") else value


def _placed(saved: Any, like: Any) -> Any:
    """The tree of saved arrays, each where its like lies."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    def place(value: Any, like: Any) -> Any:
        if not isinstance(like, jax.Array):
            return type(like)(_number(value))
        if isinstance(like.sharding, jax.sharding.SingleDeviceSharding):
            # Bound to no device, as it was: a step on several devices takes it.
            return jnp.asarray(np.asarray(value))
        return jax.device_put(np.asarray(value), like.sharding)

    return jax.tree.map(place, saved, like)


def main() -> None:
    """Runs the runner that the command line names, as Python itself would."""
    del sys.argv[0]
    runner = Path(sys.argv[0])
    sys.path[0] = str(runner.parent)
    checkpoint_utils: Any = importlib.import_module("algoperf.checkpoint_utils")
    checkpoint_utils.maybe_restore_checkpoint = restored
    runpy.run_path(str(runner), run_name="__main__")


if __name__ == "__main__":
    main()
