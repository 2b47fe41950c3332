"""Records the weights that every option set reaches, to hold later commits against them.

    PYTHONPATH=BEFORE:. python tests/submission/shampoo/golden.py before.npz
    PYTHONPATH=. python tests/submission/shampoo/golden.py after.npz before.npz

BEFORE is a checkout of another commit; the second command prints which trajectories differ from
those of the first. Bits depend on the machine and its libraries, so both run on one machine.
`golden.npz` beside this file has the float64 values of one device: all of them since early
refreshes come at powers of four, which were at powers of two before. `test_golden.py` compares them
within a tolerance, on any machine.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from submission.shampoo import Shampoo
from tests.submission.shampoo import ranks
from tests.submission.shampoo.streams import OPTIONS, SHAPES, VARIANTS, parameters

FILE = Path(__file__).with_suffix(".npz")
STEPS = 40
WORLD = 4
DTYPES = ("float64", "float32")
SCALAR = SHAPES.index(())  # `Shard(0)` has no meaning for it


def weights_after(options, dtype, layout="one device"):
    """The weights after `STEPS` steps on the fixed stream, all elements in one vector."""
    dtype = getattr(torch, dtype)
    weights = parameters(dtype=dtype)
    if layout == "fsdp":
        del weights[SCALAR]
        mesh = init_device_mesh("cpu", (WORLD,))
        weights = [torch.nn.Parameter(distribute_tensor(w.data, mesh, [Shard(0)])) for w in weights]
    optimizer = Shampoo(weights, **{**OPTIONS, **options})
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        for weight in weights:
            grad = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(dtype)
            weight.grad = distribute_tensor(grad, mesh, [Shard(0)]) if layout == "fsdp" else grad
        optimizer.step()
    values = [w.full_tensor() if layout == "fsdp" else w for w in weights]
    return torch.cat([value.detach().flatten() for value in values]).numpy()


def on_rank(rank, *args):
    """`weights_after` on one of several ranks."""
    del rank
    return weights_after(*args)


def record():
    """Vectors of weights by "dtype / layout / variant"."""
    torch.set_num_threads(1)
    recorded = {}
    for (name, options), dtype in itertools.product(VARIANTS.items(), DTYPES):
        arguments = options, dtype
        recorded[f"{dtype} / one device / {name}"] = weights_after(*arguments, "one device")
        for layout in ("ddp", "fsdp"):
            weights, *copies = ranks.run(WORLD, on_rank, *arguments, layout)
            assert all(np.array_equal(weights, copy) for copy in copies), (layout, name)
            recorded[f"{dtype} / {WORLD} ranks, {layout} / {name}"] = weights
    return recorded


def main(output, before=None):
    """Records, and prints the largest relative difference of all that is not as it was before."""
    recorded = record()
    np.savez_compressed(output, **recorded)
    for key, weights in np.load(before).items() if before else ():
        if not np.array_equal(weights, recorded[key]):
            print(f"{key}: {np.abs(weights - recorded[key]).max() / np.abs(weights).max():.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
