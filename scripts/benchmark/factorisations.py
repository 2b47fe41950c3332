"""Times what refreshes are made of: eigh, QR and inverse roots by products, by size and batch.

    python -m scripts.benchmark.factorisations --device=cuda --output=results/gpu/DEVICE

Of covariances of a condition of 1e6, in float32. `scripts.benchmark.roots` has their errors. Writes
factorisations.json, after each size.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from absl import flags
from torch import Tensor

from common import cli, files
from scripts.benchmark import machine, root_inputs
from scripts.benchmark.clock import Sample, failure_recorded, interleaved, summaries, timed
from submission.shampoo import roots

FLAGS = flags.FLAGS
SIZES, BATCHES, REPEATS = (32, 128, 384, 512, 1024), (1, 16, 128), 3
# Of one batch, at most.
BATCH_SECONDS = 10
DAMPING = 1e-6
METHODS: Mapping[str, Callable[[Tensor], Any]] = {
    "eigh": torch.linalg.eigh,
    "QR": torch.linalg.qr,
    "A^(-1/4) by products": functools.partial(roots.by_products, exponent=0.25, damping=DAMPING),
    "A^(-1/2) by products": functools.partial(roots.by_products, exponent=0.5, damping=DAMPING),
}
Row = dict[str, Any]


def measure(
    size: int, batch: int, device: torch.device, repeats: int, limit: float = math.inf
) -> list[Row]:
    """A row per method: `method`, `size`, `batch`, `failure` and a summary of each clock.

    Times are of the whole batch; methods run in turn, and none again that took longer than `limit`
    seconds or failed.
    """
    matrix = root_inputs.log_uniform(size, 1e6).matrix
    matrices = matrix.repeat(batch, 1, 1).to(device)
    rows: dict[str, Row] = {
        name: {"method": name, "size": size, "batch": batch, "failure": None} for name in METHODS
    }
    samples: dict[str, list[Sample]] = {name: [] for name in METHODS}
    # The first of each has caches to fill.
    for name in interleaved(list(METHODS), repeats + 1):
        if rows[name]["failure"] is None:
            with failure_recorded(rows[name], limit):
                call = functools.partial(METHODS[name], matrices)
                samples[name].append(timed(call, device, limit))
    return [
        row | (summaries(samples[name][1:]) if len(samples[name]) > 1 else {})
        for name, row in rows.items()
    ]


def main(argv: Sequence[str]) -> None:
    """Measures at the sizes of the GPU checks."""
    del argv
    device = machine.device(FLAGS.device)
    sizes, batches, repeats = ((8, 16), (1, 2), 1) if FLAGS.tiny else (SIZES, BATCHES, REPEATS)
    path = files.make_directory(Path(FLAGS.output)) / "factorisations.json"
    rows: list[Row] = []
    for size in sizes:
        for batch in batches:
            rows += measure(size, batch, device, repeats, BATCH_SECONDS)
        files.write_json(path, {"settings": machine.conditions(device), "rows": rows})
    print(f"wrote {path}")


if __name__ == "__main__":
    machine.define_flags("runs/factorisations", with_tiny=True)
    cli.run(main)
