"""Clocks for one optimizer step, and what else the machine did meanwhile."""

import dataclasses
import math
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from scripts.local import environment


class StepTimeout(BaseException):
    """A step took longer than allowed.

    Not an `Exception`, since optimizers catch those to keep an old root and go on.
    """


@dataclasses.dataclass(frozen=True)
class Sample:
    """One step, in milliseconds.

    Attributes:
      cpu: CPU time of all threads of this process until the call returned; on CUDA the host's part.
      thread: the calling thread's part of it.
      wall: real time until all its work was done.
      device: between two CUDA events around the step; None on a CPU.
    """

    cpu: float
    thread: float
    wall: float
    device: float | None


def timed(call: Callable[[], Any], device: torch.device, limit: float) -> Sample:
    """Times one call.

    Raises:
      StepTimeout: if it takes longer than `limit` seconds. A single kernel is not interrupted.
    """
    start = end = None
    with _deadline(limit):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            start = torch.cuda.Event(enable_timing=True)
            end = torch.cuda.Event(enable_timing=True)
            start.record()
        wall, cpu, thread = time.perf_counter_ns(), time.process_time_ns(), time.thread_time_ns()
        call()
        thread, cpu = time.thread_time_ns() - thread, time.process_time_ns() - cpu
        if start is not None and end is not None:
            end.record()
            torch.cuda.synchronize(device)
        wall = time.perf_counter_ns() - wall
    if wall > 1e9 * limit:
        raise StepTimeout
    on_device = None if start is None or end is None else start.elapsed_time(end)
    return Sample(cpu / 1e6, thread / 1e6, wall / 1e6, on_device)


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    # Only the main thread can have signals handled.
    if threading.current_thread() is not threading.main_thread() or not math.isfinite(seconds):
        yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        raise StepTimeout

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Count, mean, minimum, quantiles and maximum.

    >>> summary([4.0, 1.0, 2.0, 3.0])["median"]
    2.5
    """
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "mean": statistics.fmean(ordered),
        "min": ordered[0],
        "median": statistics.median(ordered),
        **{f"p{percent}": _percentile(ordered, percent) for percent in (25, 75, 95, 99)},
        "max": ordered[-1],
    }


def summaries(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """A summary of each clock that ran, by its name."""
    clocks = (field.name for field in dataclasses.fields(Sample))
    values = {clock: [getattr(sample, clock) for sample in samples] for clock in clocks}
    return {clock: summary(each) for clock, each in values.items() if None not in each}


def _percentile(ordered: Sequence[float], percent: float) -> float:
    """By nearest rank, so that it is a time that was measured."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


class Watch:
    """Load and the share of the machine's CPU time that went to other processes, from now on."""

    def __init__(self) -> None:
        self._wall, self._own, self._busy = time.monotonic(), time.process_time(), _busy_seconds()

    def report(self) -> dict[str, float | None]:
        """`seconds` since the start, `load_average` of one minute, `others_cpu_share` in [0, 1].

        What the system does not tell is None.
        """
        seconds = time.monotonic() - self._wall
        busy = _busy_seconds()
        others = None
        if busy is not None and self._busy is not None and seconds > 0:
            own = time.process_time() - self._own
            cores = len(environment.available_cores())
            others = min(1.0, max(0.0, (busy - self._busy - own) / (seconds * cores)))
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return {"seconds": seconds, "load_average": load, "others_cpu_share": others}


def _busy_seconds() -> float | None:
    """CPU time spent by all processes since the system's start."""
    try:
        fields = Path("/proc/stat").read_text("utf-8").splitlines()[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _wait, interrupts, soft, stolen = map(int, fields)
    ticks = user + nice + system + interrupts + soft + stolen
    return ticks / float(os.sysconf("SC_CLK_TCK"))
