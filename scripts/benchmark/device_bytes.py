"""How many bytes of the JAX Shampoo's state lie on each device of a mesh.

    python -m scripts.benchmark.device_bytes --networks=vit_s16,resnet50 --output=results/jax

Virtual CPU devices; nothing is computed, so that a network of any size fits. Writes
device_bytes.json: by network and number of devices, bytes on the one that holds most.
"""

import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common import cli, files
from common.cli import UserError
from scripts.benchmark import model_shapes

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declares the command line."""
    known = ", ".join(model_shapes.NETWORKS)
    flags.DEFINE_list("networks", ["vit_s16", "resnet50"], f"of {known}")
    flags.DEFINE_list("devices", ["1", "2", "4", "8"], "how many the state is divided among")
    flags.DEFINE_string("output", "runs/jax", "folder for device_bytes.json")


def main(argv: Sequence[str]) -> None:
    """Writes what the flags ask for."""
    del argv
    networks = cli.names("networks", FLAGS.networks, model_shapes.NETWORKS)
    counts = [int(count) for count in cli.numbers("devices", FLAGS.devices, 1, integers=True)]
    try:
        jax = importlib.import_module("jax")
        importlib.import_module("submission.shampoo_jax")
    except ImportError as error:
        raise UserError(f"JAX is needed: {error}") from error
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(counts))
    found = {
        network: {str(count): most_bytes(model_shapes.shapes(network), count) for count in counts}
        for network in networks
    }
    path = files.make_directory(Path(FLAGS.output)) / "device_bytes.json"
    files.write_json(path, found)
    print(f"wrote {path}")


def most_bytes(shapes: Mapping[str, tuple[int, ...]], count: int) -> int:
    """Bytes of Shampoo's state, float32 with its defaults, on a device of `count`.

    Args:
      shapes: of the parameters, whose first dimension counts rows, as in PyTorch.
      count: of devices, of which JAX has as many.
    """
    jax = importlib.import_module("jax")
    shampoo_jax = importlib.import_module("submission.shampoo_jax")
    mesh = jax.sharding.Mesh(jax.devices()[:count], ("data",))
    optimizer = shampoo_jax.shampoo(1e-3, mesh=mesh, matricize=lambda path, shape: 1)
    params = [jax.ShapeDtypeStruct(shape, "float32") for shape in shapes.values()]
    state = jax.eval_shape(optimizer.init, params)
    places = shampoo_jax.state_shardings(state, mesh)

    def size(array: Any, place: Any) -> int:
        return math.prod(place.shard_shape(array.shape)) * int(array.dtype.itemsize)

    return sum(jax.tree.leaves(jax.tree.map(size, state, places)))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
