"""How evenly our own optimizer's work is spread over steps: refreshed together or staggered."""

import time
from typing import Any

import torch

from common import progress
from common.cli import UserError
from scripts.benchmark import network_shapes
from scripts.benchmark.clock import Sample, Watch, summaries, timed
from scripts.benchmark.contestant import Contestant, gradients
from scripts.local import rivals
from scripts.local.rivals import RivalOptions

NETWORK = "small_200k"
OPTIMIZER = "ours_shampoo"
INTERVAL = 100
VARIANTS: dict[str, dict[str, Any]] = {
    "together": {"refresh": "together"},
    "staggered": {"refresh": "staggered"},
    "staggered, overlapped": {"refresh": "staggered", "overlap": True},
}


def measure(
    device: torch.device,
    steps: int,
    pause: float,
    time_limit: float,
    network: str = NETWORK,
    interval: int = INTERVAL,
) -> dict[str, Any]:
    """Times every step of each variant, in turn.

    The first interval, with its early refreshes, is not counted.

    Args:
      steps: of each variant after that.
      pause: seconds before each step, in place of a forward and a backward pass, in which an
        overlapped refresh may run.
      time_limit: seconds for one step.

    Returns:
      `settings`, `machine` and `rows`: for each variant a summary of each clock in milliseconds,
      and the 99th percentile over the median of the wall, the thread's and the device's times.

    Raises:
      UserError: if our optimizer cannot be built here.
    """
    found = rivals.available()
    if OPTIMIZER not in found:
        raise UserError(f"--staggering needs {OPTIMIZER}: {rivals.absent()[OPTIMIZER]}")
    shapes = network_shapes.shapes(network)
    gradient_sets = gradients(shapes, device)
    contestants = {
        name: Contestant(
            found[OPTIMIZER], shapes, gradient_sets, RivalOptions(interval=interval, ours=options)
        )
        for name, options in VARIANTS.items()
    }
    samples: dict[str, list[Sample]] = {name: [] for name in VARIANTS}
    watch = Watch()
    with progress.bar((interval + steps) * len(VARIANTS), network, "step") as bar:
        for turn in range(interval + steps):
            order = list(contestants.items())
            for name, contestant in order[:: 1 if turn % 2 == 0 else -1]:
                contestant.prepare()
                time.sleep(pause)
                sample = timed(contestant.step, device, time_limit)
                if turn >= interval:
                    samples[name].append(sample)
                bar.update()
    return {
        "settings": {
            "network": network,
            "optimizer": OPTIMIZER,
            "interval": interval,
            "steps": steps,
            "pause_seconds": pause,
        },
        "machine": watch.report(),
        "rows": [
            {"variant": name, "options": VARIANTS[name], **_spread(taken)}
            for name, taken in samples.items()
        ],
    }


def _spread(taken: list[Sample]) -> dict[str, Any]:
    clocks = summaries(taken)
    ratios = {clock: each["p99"] / each["median"] for clock, each in clocks.items()}
    return {**clocks, "p99_over_median": ratios}
