"""Run by `test_jax` in a process with several CPU devices; prints what happened as JSON."""

import json

import jax
import numpy as np

from submission.algoperf_api import jax as api
from submission.shampoo_jax import evaluated, state_shardings
from tests.submission.algoperf_api.test_jax import run_of, small_shampoo
from tests.submission.tiny_jax_training import arrays
from tests.submission.tiny_training import Recorder, entry_of, make_batch

if __name__ == "__main__":
    logger = Recorder()
    entry = entry_of(api, small_shampoo, shardings=state_shardings, reader=lambda point: evaluated)
    run = run_of(entry, logger, learning_rate=0.1)
    for step in range(6):
        run.step(arrays(make_batch(step)), step)
    trained = {name: np.array(value).tolist() for name, value in run.params.items()}
    read = run.prepare()
    stacks = jax.tree.leaves(run.state[0].optimizer.stacks)
    lanes = {shard.data.shape[0] for array in stacks for shard in array.addressable_shards}
    figures = {
        "devices": len(jax.devices()),
        "lanes of a device": sorted(lanes),
        "weights": trained,
        "read": {name: np.array(value).tolist() for name, value in read.items()},
        "loss": logger.rows[-1][1]["loss"],
    }
    print(json.dumps(figures))
