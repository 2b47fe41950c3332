"""Times steps of several optimizers, interleaved in one process, on one network's shapes."""

import dataclasses
import gc
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from common import progress
from common.cli import UserError
from scripts.benchmark import model_shapes, report
from scripts.benchmark.clock import Sample, failure_recorded, interleaved, summaries, timed
from scripts.benchmark.counting import cuda_activity, operators
from scripts.benchmark.machine import LoadMeter, collector_off, conditions
from scripts.benchmark.model_shapes import Shapes
from scripts.benchmark.stepped import SteppedOptimizer, gradients
from scripts.local import rivals
from scripts.local.rivals import Rival, RivalOptions

# Networks below this number of parameters get more cycles: their steps take a millisecond.
_SMALL, _SMALL_FACTOR = 1_000_000, 10
# Float32 copies of the weights that an optimizer takes with its state, from above; temporaries of
# different optimizers do not live at the same time.
_COPIES = 12

STAGGERING: dict[str, dict[str, Any]] = {
    "together": {"refresh": "together"},
    "staggered": {"refresh": "staggered"},
    "staggered, overlapped": {"refresh": "staggered", "overlap": True},
}
_STAGGERED = "ours_shampoo"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Networks, optimizers and settings of a measurement.

    Attributes:
      optimizers: those to measure, by name.
      absent: those asked for that this environment cannot build, with the reason.
      intervals: refresh intervals to amortise over.
      options: of all optimizers; `interval` is the number of steps in a cycle, of which the last
        one refreshes.
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

    def groups(self, parameters: int) -> list[list[str]]:
        """Optimizers to interleave, each group with the ones that ratios are taken to."""
        anchors = [name for name in report.BASES if name in self.optimizers]
        compared = [name for name in self.optimizers if name not in anchors]
        room = max(1, int(self.memory / (4 * parameters) / _COPIES) - len(anchors))
        return [anchors + compared[i : i + room] for i in range(0, max(1, len(compared)), room)]


def measure(network: str, plan: Plan) -> dict[str, Any]:
    """Steps all optimizers on one network.

    Returns:
      `settings`, `parameters` and `rows`, one row per optimizer: `failure`, `plain` and `refresh`
      with a summary of each clock in milliseconds, operators, memory, amortised times and ratios.
    """
    shapes = model_shapes.shapes(network)
    parameters = sum(math.prod(shape) for shape in shapes.values())
    gradient_sets = gradients(shapes, plan.device)
    repeats = plan.repeats * (_SMALL_FACTOR if parameters < _SMALL else 1)
    rows: dict[str, dict[str, Any]] = {}
    groups = []
    steps = sum(map(len, plan.groups(parameters))) * (plan.options.interval * (repeats + 1) + 1)
    with progress.bar(steps, network, "step") as bar:
        for names in plan.groups(parameters):
            # What the last group left in reference cycles is as large as what this one needs.
            gc.collect()
            group, load = _measure_group(names, shapes, gradient_sets, repeats, plan, bar)
            report.derive(group, plan.intervals)
            groups.append({"optimizers": names, **load})
            rows = group | rows  # The first group's numbers stand for the ones in every group.
    rows = {name: rows[name] for name in plan.optimizers} | {
        name: {"optimizer": name, "failure": None, "absent": reason}
        for name, reason in plan.absent.items()
    }
    settings = {
        **{f: getattr(plan.options, f) for f in ("lr", "betas", "eps", "weight_decay")},
        "block_size": plan.options.block_size,
        "cycle": plan.options.interval,
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
    """Rows by name of optimizers that step interleaved, and the machine's load meanwhile."""
    rows: dict[str, dict[str, Any]] = {}
    running: dict[str, SteppedOptimizer] = {}
    for name in names:
        rival = plan.optimizers[name]
        row: dict[str, Any] = {"optimizer": name, "package": rival.package_version}
        rows[name] = row | {"failure": None}
        bar.set_postfix_str(f"({name}, first steps)")
        with failure_recorded(rows[name], plan.time_limit):
            stepped = SteppedOptimizer(rival, shapes, gradient_sets, plan.options)
            rows[name] |= stepped.preparation() | _first_steps(stepped, plan, bar)
            running[name] = stepped
    samples: dict[str, dict[str, list[Sample]]] = {n: {"plain": [], "refresh": []} for n in names}
    load = LoadMeter()
    with collector_off():
        for name in interleaved(list(running), repeats * plan.options.interval):
            if name not in running:
                continue
            bar.set_postfix_str(f"({name})")
            with failure_recorded(rows[name], plan.time_limit):
                kind = "refresh" if running[name].prepare() else "plain"
                sample = timed(running[name].step, plan.device, plan.time_limit)
                samples[name][kind].append(sample)
            bar.update()
            if rows[name]["failure"]:
                del running[name]
    load_report = load.report()
    for name, stepped in running.items():
        with failure_recorded(rows[name], plan.time_limit):
            rows[name] |= stepped.memory()
        for kind, times in samples[name].items():
            rows[name][kind] = summaries(times) if times else None
    return rows, load_report


def _first_steps(stepped: SteppedOptimizer, plan: Plan, bar: Any) -> dict[str, Any]:
    """Counts what steps dispatch, by kind, up to the first regular refresh and one step more."""
    counts: dict[str, Any] = {}
    for _ in range(plan.options.interval + 1):
        kind = "refresh" if stepped.prepare() else "plain"

        def step(kind: str = kind) -> None:
            if plan.device.type == "cuda":
                counts[kind] = cuda_activity(stepped.step)
            else:
                counts[kind] = {"operators": operators(stepped.step)}

        timed(step, plan.device, plan.time_limit)
        bar.update()
    # Later steps overwrote earlier ones, which may have had no preconditioner yet.
    return {f"{kind}_{what}": n for kind, what_n in counts.items() for what, n in what_n.items()}


def staggering(
    device: torch.device,
    steps: int,
    pause: float,
    time_limit: float,
    network: str = "small_200k",
    interval: int = 100,
) -> dict[str, Any]:
    """Times every step of ours with refreshes together, staggered and overlapped, interleaved.

    The first interval, with its early refreshes, is not counted.

    Args:
      steps: of each variant after that.
      pause: seconds before each step, in place of a forward and a backward pass, in which an
        overlapped refresh may run.
      time_limit: seconds for one step.

    Returns:
      `settings`, `machine` and `rows`: for each variant a summary of each clock in milliseconds,
      and the 99th percentile over the median of each clock.

    Raises:
      UserError: if this environment cannot build our optimizer.
    """
    if (rival := rivals.available().get(_STAGGERED)) is None:
        raise UserError(f"--staggering needs {_STAGGERED}: {rivals.absent()[_STAGGERED]}")
    shapes = model_shapes.shapes(network)
    gradient_sets = gradients(shapes, device)
    variants = {
        name: SteppedOptimizer(
            rival, shapes, gradient_sets, RivalOptions(interval=interval, shampoo_options=options)
        )
        for name, options in STAGGERING.items()
    }
    samples: dict[str, list[Sample]] = {name: [] for name in variants}
    load = LoadMeter()
    total = interval + steps
    with collector_off(), progress.bar(total * len(variants), network, "step") as bar:
        for name in interleaved(list(variants), total):
            variants[name].prepare()
            time.sleep(pause)
            samples[name].append(timed(variants[name].step, device, time_limit))
            bar.update()
    rows = []
    for name, times in samples.items():
        clocks = summaries(times[interval:])
        ratios = {clock: values["p99"] / values["median"] for clock, values in clocks.items()}
        row = {"variant": name, "options": STAGGERING[name], **clocks, "p99_over_median": ratios}
        rows.append(row)
    settings = {
        "network": network,
        "optimizer": _STAGGERED,
        "interval": interval,
        "steps": steps,
        "pause_seconds": pause,
        **conditions(device),
    }
    return {"settings": settings, "machine": load.report(), "rows": rows}
