"""Times plain and refresh steps of several optimizers that take turns on one network's shapes."""

import dataclasses
import gc
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from common import progress
from scripts.benchmark import network_shapes
from scripts.benchmark import report as benchmark_report
from scripts.benchmark.clock import Sample, StepTimeout, Watch, summaries, timed
from scripts.benchmark.contestant import Contestant, cuda_activity, gradients, operators
from scripts.benchmark.network_shapes import Shapes
from scripts.local import environment, rivals
from scripts.local.rivals import Rival, RivalOptions

# Networks below this number of parameters get more cycles: their steps take a millisecond.
_SMALL, _SMALL_FACTOR = 1_000_000, 10

# Float32 copies of the weights that a contestant takes with its state, from above; its temporaries
# come and go one contestant at a time.
_COPIES = 12


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to measure, and how.

    Attributes:
      optimizers: those to measure, by name.
      absent: those asked for that cannot be built here, with the reason.
      intervals: refresh intervals to amortise over.
      cycle: steps between refreshes while measuring.
      repeats: cycles of each optimizer.
      time_limit: seconds for one step.
      memory: bytes that all optimizers of one interleaved group may hold.
    """

    networks: tuple[str, ...]
    optimizers: dict[str, Rival]
    absent: dict[str, str]
    intervals: tuple[int, ...]
    options: RivalOptions
    device: torch.device
    repeats: int
    time_limit: float
    memory: float

    @property
    def cycle(self) -> int:
        return self.options.interval

    def groups(self, parameters: int) -> list[list[str]]:
        """Optimizers that are interleaved, each group with the ones that ratios are taken to."""
        anchors = [n for n in (rivals.BASELINE, rivals.REFERENCE) if n in self.optimizers]
        others = [name for name in self.optimizers if name not in anchors]
        copies = self.memory / (4 * parameters)
        room = max(1, int(copies / _COPIES) - len(anchors))
        return [anchors + others[i : i + room] for i in range(0, max(1, len(others)), room)]


def measure(network: str, plan: Plan) -> dict[str, Any]:
    """Steps all optimizers on one network.

    Returns:
      `settings`, `parameters` and `rows`, one row per optimizer: `failure`, `plain` and `refresh`
      with a summary of each clock in milliseconds, operators, memory, amortised times and ratios.
    """
    shapes = network_shapes.shapes(network)
    parameters = sum(math.prod(shape) for shape in shapes.values())
    gradient_sets = gradients(shapes, plan.device)
    repeats = plan.repeats * (_SMALL_FACTOR if parameters < _SMALL else 1)
    rows: dict[str, dict[str, Any]] = {}
    groups = []
    steps = sum(map(len, plan.groups(parameters))) * (plan.cycle * (repeats + 1) + 1)
    with progress.bar(steps, network, "step") as bar:
        for names in plan.groups(parameters):
            # What the last group left in reference cycles is as large as what this one needs.
            gc.collect()
            group, watch = _measure_group(names, shapes, gradient_sets, repeats, plan, bar)
            benchmark_report.derive(group, plan.intervals)
            groups.append({"optimizers": names, **watch})
            rows = group | rows  # The first group's numbers stand for the ones in every group.
    rows = {name: rows[name] for name in plan.optimizers}
    for name, reason in plan.absent.items():
        rows[name] = {"optimizer": name, "failure": None, "absent": reason}
    settings = {
        **{f: getattr(plan.options, f) for f in ("lr", "betas", "eps", "weight_decay")},
        "block_size": plan.options.block_size,
        "cycle": plan.cycle,
        "cycles": repeats,
        "time_limit_seconds": plan.time_limit if math.isfinite(plan.time_limit) else None,
        "intervals": plan.intervals,
        **conditions(plan.device),
    }
    return {
        "parameters": parameters,
        "tensors": len(shapes),
        "settings": settings,
        "groups": groups,
        "rows": list(rows.values()),
    }


def _measure_group(
    names: Sequence[str],
    shapes: Shapes,
    gradient_sets: list[list[Tensor]],
    repeats: int,
    plan: Plan,
    bar: Any,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Rows by name of optimizers that take turns, and what the machine did meanwhile."""
    rows: dict[str, dict[str, Any]] = {}
    running: list[Contestant] = []
    for name in names:
        rival = plan.optimizers[name]
        row: dict[str, Any] = {"optimizer": name, "package": rival.package_version}
        rows[name] = row | {"failure": None}
        bar.set_postfix_str(f"({name}, first steps)")
        with _failure_kept(rows[name], plan):
            contestant = Contestant(rival, shapes, gradient_sets, plan.options)
            running.append(contestant)
            rows[name] |= _first_steps(contestant, plan, bar)
        if rows[name]["failure"] and running and running[-1].rival is rival:
            running.pop()
    samples: dict[str, dict[str, list[Sample]]] = {n: {"plain": [], "refresh": []} for n in names}
    watch = Watch()
    with collector_off():
        for turn in range(repeats * plan.cycle):
            # Alternating, so that none always finds the caches as the same other left them.
            for contestant in running[:: 1 if turn % 2 == 0 else -1]:
                name = contestant.rival.name
                bar.set_postfix_str(f"({name})")
                with _failure_kept(rows[name], plan):
                    kind = "refresh" if contestant.prepare() else "plain"
                    sample = timed(contestant.step, plan.device, plan.time_limit)
                    samples[name][kind].append(sample)
                bar.update()
            running = [each for each in running if not rows[each.rival.name]["failure"]]
    seen = watch.report()
    for contestant in running:
        row = rows[contestant.rival.name]
        with _failure_kept(row, plan):
            row |= contestant.memory()
        for kind, taken in samples[contestant.rival.name].items():
            row[kind] = summaries(taken) if taken else None
    return rows, seen


@contextmanager
def _failure_kept(row: dict[str, Any], plan: Plan) -> Iterator[None]:
    """Whatever ends an optimizer's steps becomes its row's `failure`; the others go on."""
    try:
        yield
    except StepTimeout:
        row["failure"] = f"a step took longer than {plan.time_limit:g} s"
    except Exception as error:
        row["failure"] = f"{type(error).__name__}: {error}"


def _first_steps(contestant: Contestant, plan: Plan, bar: Any) -> dict[str, Any]:
    """Steps until the first regular refresh and one more; what they dispatch, by kind of step."""
    counts: dict[str, Any] = {}
    for _ in range(plan.cycle + 1):
        kind = "refresh" if contestant.prepare() else "plain"

        def step(kind: str = kind) -> None:
            if plan.device.type == "cuda":
                counts[kind] = cuda_activity(contestant.step)
            else:
                counts[kind] = {"operators": operators(contestant.step)}

        timed(step, plan.device, plan.time_limit)
        bar.update()
    # Later steps overwrote earlier ones, which may have had no preconditioner yet.
    return {f"{kind}_{what}": n for kind, each in counts.items() for what, n in each.items()}


def conditions(device: torch.device) -> dict[str, Any]:
    """Machine, versions and thread settings, as JSON values."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        **environment.describe(),
    }


@contextmanager
def collector_off() -> Iterator[None]:
    """Python's garbage collector would run in whichever step is its turn."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
