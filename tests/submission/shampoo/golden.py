"""Records the weights that every option set reaches, to hold later commits against them.

    PYTHONPATH=BEFORE:. python tests/submission/shampoo/golden.py record before.npz
    PYTHONPATH=. python tests/submission/shampoo/golden.py record after.npz
    PYTHONPATH=. python tests/submission/shampoo/golden.py compare before.npz after.npz

BEFORE is a checkout of another commit. Bits depend on the machine and its libraries, so both
recordings that are compared bit by bit are made on one machine. `golden.npz` beside this file has
the float64 values of one device as they were before the redesign of November 2026, and KL-Shampoo's
since its scale no longer depends on the first gradients; `test_golden.py` compares them within a
tolerance, on any machine.
"""

import argparse
import hashlib
import itertools
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


def table(before, after):
    """Markdown lines: for each key whether the bits agree, and the largest relative difference."""
    lines = ["| trajectory | hash before | same bits | largest difference |", "|---|---|---|---|"]
    for key in sorted(before.keys() | after.keys()):
        if key not in before or key not in after:
            lines.append(f"| {key} | only {'before' if key in before else 'after'} | | |")
            continue
        digest = hashlib.sha256(before[key].tobytes()).hexdigest()[:12]
        same = np.array_equal(before[key], after[key])
        difference = np.abs(before[key] - after[key]).max() / np.abs(before[key]).max()
        lines.append(f"| {key} | {digest} | {'yes' if same else '**no**'} | {difference:.1e} |")
    return lines


def main():
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record").add_argument("output", type=Path)
    compare = commands.add_parser("compare")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "record":
        np.savez_compressed(arguments.output, **record())
    else:
        print("\n".join(table(np.load(arguments.before), np.load(arguments.after))))


if __name__ == "__main__":
    main()
