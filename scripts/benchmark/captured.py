"""Captures a plain step of Shampoo in a CUDA graph and holds replays against steps without one.

    python -m scripts.benchmark.captured --device=cuda --output=results/gpu/DEVICE

Two optimizers with `capturable=True` get the same gradients, copied into the same memory at each
step; one replays its step, the other takes it. Where graphs cannot be captured, on a CPU, both take
it. Writes captured.json.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from absl import flags
from torch import Tensor

from common import cli, files
from scripts.benchmark import machine, model_shapes
from scripts.benchmark.clock import Sample, summaries, timed
from scripts.benchmark.launches import LATE
from scripts.benchmark.model_shapes import Shapes
from scripts.benchmark.stepped import gradients, weights
from submission.shampoo import Shampoo
from submission.shampoo.devices import stream_module

FLAGS = flags.FLAGS
NETWORKS, STEPS = ("vit_s16", "resnet50"), 20
# Of one step, at most.
STEP_SECONDS = 60
# Steps before a capture, with the first refreshes.
_WARM = 3


class _Side:
    """Parameters, their gradients in memory that stays, and an optimizer that can be captured."""

    def __init__(self, shapes: Shapes, device: torch.device) -> None:
        self.parameters = weights(shapes, device)
        self._grads = [torch.zeros_like(parameter) for parameter in self.parameters]
        for parameter, grad in zip(self.parameters, self._grads, strict=True):
            parameter.grad = grad
        rate = torch.tensor(1e-3).to(device)
        self.optimizer = Shampoo(
            self.parameters, lr=rate, weight_decay=0.01, refresh="together", capturable=True
        )

    def receive(self, grads: Sequence[Tensor]) -> None:
        """Copies gradients into the parameters' own."""
        torch._foreach_copy_(self._grads, list(grads))


def compare(shapes: Shapes, device: torch.device, steps: int, limit: float = math.inf) -> Any:
    """Replays and steps of parameters of some shapes.

    Args:
      shapes: of the parameters.
      device: of everything.
      steps: compared after the capture; none of them refreshes.
      limit: seconds for one step.

    Returns:
      `captured`: whether there was a graph; `difference`: the largest of a weight after all steps,
      relative to the largest of its tensor; `replay` and `step`: summaries of their clocks.
    """
    sets = gradients(shapes, device)
    replayed, stepped = _Side(shapes, device), _Side(shapes, device)
    with _beside(device):
        for number in range(_WARM):
            for side in (replayed, stepped):
                side.receive(sets[number % len(sets)])
                side.optimizer.step()
    for side in (replayed, stepped):
        side.optimizer.param_groups[0].update(LATE)
    captured = device.type == "cuda"
    replay = _capture(replayed.optimizer) if captured else replayed.optimizer.step
    times: dict[str, list[Sample]] = {"replay": [], "step": []}
    for number in range(steps):
        for side in (replayed, stepped):
            side.receive(sets[number % len(sets)])
        times["replay"].append(timed(replay, device, limit))
        times["step"].append(timed(stepped.optimizer.step, device, limit))
    pairs = zip(replayed.parameters, stepped.parameters, strict=True)
    return {
        "captured": captured,
        "steps": steps,
        "difference": max(_difference(a.detach(), b.detach()) for a, b in pairs),
        **{name: summaries(samples) for name, samples in times.items()},
    }


def _difference(tensor: Tensor, other: Tensor) -> float:
    scale = other.abs().max().clamp_min(torch.finfo(other.dtype).tiny)
    return float(((tensor - other).abs().max() / scale).item())


@contextlib.contextmanager
def _beside(device: torch.device) -> Iterator[None]:
    """A side stream, on which CUDA wants to see steps before it captures one."""
    streams = stream_module(device)
    if streams is None:
        yield
        return
    main, side = streams.current_stream(device), streams.Stream(device)
    side.wait_stream(main)
    try:
        with streams.stream(side):
            yield
    finally:
        main.wait_stream(side)


def _capture(optimizer: Shampoo) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()

    def replay() -> None:
        graph.replay()
        optimizer.refresh()

    return replay


def main(argv: Sequence[str]) -> None:
    """Compares on the networks of the GPU checks."""
    del argv
    device = machine.device(FLAGS.device)
    names, steps = (("small_200k",), 2) if FLAGS.tiny else (NETWORKS, STEPS)
    path = files.make_directory(Path(FLAGS.output)) / "captured.json"
    results: dict[str, Any] = {"settings": machine.conditions(device), "networks": {}}
    for name in names:
        results["networks"][name] = compare(model_shapes.shapes(name), device, steps, STEP_SECONDS)
        files.write_json(path, results)
    print(f"wrote {path}")


if __name__ == "__main__":
    machine.define_flags("runs/captured", with_tiny=True)
    cli.run(main)
