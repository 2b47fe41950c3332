"""Times real training steps of ViT-S and ResNet-50: forward, backward and each optimizer's step.

    python -m scripts.benchmark.training --device=cuda --output=results/gpu/DEVICE

Random images and labels, as many per GPU as AlgoPerf has on four, in float32 with products in TF32,
as AlgoPerf has it. Each optimizer trains a model of its own; cycles are interleaved, and the last
step of one of ours refreshes all roots. In every other cycle forward and backward passes and steps
are timed apart. In the others whole training steps run on without a wait, as in training, where
the host queues an optimizer's step while the device is busy with the passes before. Writes
training.json after each network.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from absl import flags
from torch.nn import functional as F

from common import cli, files, progress
from scripts.benchmark import machine, networks, report
from scripts.benchmark.clock import Sample, failure_recorded, interleaved, summaries, timed
from scripts.benchmark.networks import Network
from scripts.local import rivals
from scripts.local.rivals import Rival, RivalOptions
from submission.algoperf_api.batch_sizes import get_batch_size

FLAGS = flags.FLAGS
GPUS = 4
OPTIMIZERS = ("adamw", "muon", "ours_shampoo")
INTERVALS = (1, 10, 100)
# Steps from one refresh to the next, timed cycles of each kind, and seconds of a step at most.
CYCLE, REPEATS, STEP_SECONDS = 4, 3, 60
# What is timed.
_KINDS = ("forward_and_backward", "plain", "refresh", "whole_plain", "whole_refresh")
Row = dict[str, Any]
Found = list[tuple[str, Sample]]


class Trained:
    """A model with an optimizer and one batch.

    Args:
      network: what to build.
      rival: the optimizer.
      batch: images.
      device: of all of it.
      cycle: steps from one refresh to the next.
    """

    def __init__(
        self, network: Network, rival: Rival, batch: int, device: torch.device, cycle: int
    ) -> None:
        torch.manual_seed(0)
        self.model = network.build().to(device)
        images = torch.randn(batch, 3, network.side, network.side)
        self._images = images.to(device)
        self._labels = torch.randint(networks.CLASSES, (batch,)).to(device)
        options = RivalOptions(interval=cycle, shampoo_options={"refresh": "together"})
        self._optimizer = rival.make(list(self.model.parameters()), options)
        self._rival, self._cycle, self._steps = rival, cycle, 0

    def forward_and_backward(self) -> None:
        """Leaves new gradients in the parameters."""
        self._optimizer.zero_grad()
        F.cross_entropy(self.model(self._images), self._labels).backward()

    def step(self) -> None:
        """Takes the optimizer's step."""
        self._optimizer.step()
        self._steps += 1

    def train(self, steps: int) -> None:
        """Takes whole training steps."""
        for _ in range(steps):
            self.forward_and_backward()
            self.step()

    def refreshes(self, ahead: int = 1) -> bool:
        """Whether the next step refreshes, or one further ahead."""
        return self._rival.refreshes_at(self._steps + ahead, self._cycle)


def measure(
    network: Network, optimizers: Mapping[str, Rival], batch: int, device: torch.device,
    cycle: int, repeats: int, limit: float = math.inf,
) -> list[Row]:  # fmt: skip
    """A row per optimizer.

    Returns:
      `optimizer`, `failure`, summaries of `forward_and_backward`, `plain` and `refresh` by clock,
      and what `report.derive` makes of them; of runs of whole training steps `whole`: milliseconds
      a step by interval, with `over_adamw`, the part by which it is longer than with AdamW.
    """
    rows: dict[str, Row] = {name: {"optimizer": name, "failure": None} for name in optimizers}
    samples: dict[str, dict[str, list[Sample]]] = {name: {} for name in optimizers}
    running: dict[str, Trained] = {}
    # A first cycle has no preconditioner yet, and caches to fill.
    total = 2 * repeats + 1
    with progress.bar(total * len(optimizers), network.workload, "cycle") as bar:
        for number, name in enumerate(interleaved(list(optimizers), total)):
            bar.update()
            if rows[name]["failure"]:
                continue
            with failure_recorded(rows[name], limit):
                if name not in running:
                    running[name] = Trained(network, optimizers[name], batch, device, cycle)
                cycles = _whole_cycle if number // len(optimizers) % 2 else _parted_cycle
                found = cycles(running[name], cycle, device, limit)
                for kind, sample in found if number >= len(optimizers) else ():
                    samples[name].setdefault(kind, []).append(sample)
            if rows[name]["failure"]:
                running.pop(name, None)
    for name, by_kind in samples.items():
        rows[name] |= {
            kind: summaries(by_kind[kind]) if by_kind.get(kind) else None for kind in _KINDS
        }
    report.derive(rows, INTERVALS)
    return [row | _whole(row, rows.get(rivals.BASELINE, {})) for row in rows.values()]


def _parted_cycle(trained: Trained, cycle: int, device: torch.device, limit: float) -> Found:
    """One cycle, each part of each step timed by itself."""
    found = []
    for _ in range(cycle):
        found.append(("forward_and_backward", timed(trained.forward_and_backward, device, limit)))
        kind = "refresh" if trained.refreshes() else "plain"
        found.append((kind, timed(trained.step, device, limit)))
    return found


def _whole_cycle(trained: Trained, cycle: int, device: torch.device, limit: float) -> Found:
    """One cycle of whole steps: the plain ones as one run, and each that refreshes."""
    found: Found = []
    left = cycle
    while left:
        run = 1
        kind = "whole_refresh" if trained.refreshes() else "whole_plain"
        if kind == "whole_plain":
            while run < left and not trained.refreshes(run + 1):
                run += 1
        sample = timed(functools.partial(trained.train, run), device, run * limit)
        found.append((kind, sample.over(run)))
        left -= run
    return found


def _whole(row: Row, base: Row) -> Row:
    times, baseline = _whole_times(row), _whole_times(base)
    return {
        "whole": times,
        "over_adamw": {
            interval: times[interval] / baseline[interval] - 1 if times and baseline else None
            for interval in map(str, INTERVALS)
        },
    }


def _whole_times(row: Row) -> dict[str, float]:
    """Milliseconds of a training step by interval; empty where they are unknown."""
    plain, refresh = (report.median(row.get(f"whole_{kind}")) for kind in ("plain", "refresh"))
    if plain is None or row["failure"]:
        return {}
    return report.amortised(plain, refresh, INTERVALS)


def main(argv: Sequence[str]) -> int:
    """Trains the networks of the GPU checks; 1 if an optimizer failed."""
    del argv
    device = machine.device(FLAGS.device)
    torch.set_float32_matmul_precision("high")
    cycle, repeats = (2, 1) if FLAGS.tiny else (CYCLE, REPEATS)
    available = rivals.available()
    optimizers = {name: available[name] for name in OPTIMIZERS}
    path = files.make_directory(Path(FLAGS.output)) / "training.json"
    results: dict[str, Any] = {"settings": machine.conditions(device), "networks": {}}
    for name, network in (networks.TINY if FLAGS.tiny else networks.NETWORKS).items():
        batch = 2 if FLAGS.tiny else get_batch_size(network.workload) // GPUS
        rows = measure(network, optimizers, batch, device, cycle, repeats, STEP_SECONDS)
        described = {"workload": network.workload, "side": network.side, "batch": batch}
        results["networks"][name] = {**described, "rows": rows}
        files.write_json(path, results)
    print(f"wrote {path}")
    return int(any(row["failure"] for n in results["networks"].values() for row in n["rows"]))


if __name__ == "__main__":
    machine.define_flags("runs/training", with_tiny=True)
    cli.run(main)
