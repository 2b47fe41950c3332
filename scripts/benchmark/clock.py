"""Clocks for one optimizer step, summaries of many, and the order in which optimizers step."""

import dataclasses
import math
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import torch

T = TypeVar("T")


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

    def over(self, steps: int) -> "Sample":
        """The same by step, of a sample of several."""
        device = None if self.device is None else self.device / steps
        return Sample(self.cpu / steps, self.thread / steps, self.wall / steps, device)


def timed(call: Callable[[], Any], device: torch.device, limit: float) -> Sample:
    """Times one call.

    Raises:
      StepTimeout: if it takes longer than `limit` seconds. A single kernel is not interrupted.
    """
    events = None
    with _deadline(limit):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            events[0].record()
        wall, cpu, thread = time.perf_counter_ns(), time.process_time_ns(), time.thread_time_ns()
        call()
        thread, cpu = time.thread_time_ns() - thread, time.process_time_ns() - cpu
        if events is not None:
            events[1].record()
            torch.cuda.synchronize(device)
        wall = time.perf_counter_ns() - wall
    if wall > 1e9 * limit:
        raise StepTimeout
    on_device = None if events is None else events[0].elapsed_time(events[1])
    return Sample(cpu / 1e6, thread / 1e6, wall / 1e6, on_device)


@contextmanager
def failure_recorded(row: dict[str, Any], limit: float) -> Iterator[None]:
    """Writes an exception or a timeout of what is measured into its row as `failure`."""
    try:
        yield
    except StepTimeout:
        row["failure"] = f"longer than {limit:g} s"
    except Exception as error:  # Out of memory, say, which ends no other's run.
        row["failure"] = f"{type(error).__name__}: {error}".splitlines()[0]


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


def interleaved(items: Sequence[T], rounds: int) -> Iterator[T]:
    """Yields all items once a round, in an order drawn anew for each; none twice in a row.

    So none has an advantage in what it finds in the caches: its own data, or always the same
    other item's.

    >>> "".join(interleaved("ab", 3)) in ("ababab", "bababa")
    True
    """
    draw = random.Random(0)
    order: list[T] = []
    for _ in range(rounds):
        last = order[-1:]
        order = draw.sample(items, len(items))
        if order[:1] == last:
            order.append(order.pop(0))
        yield from order


def summary(values: Sequence[float]) -> dict[str, float]:
    """Count, mean, minimum, quantiles and maximum.

    Percentiles are by nearest rank, so that each is a time that was measured.

    >>> summary([4.0, 1.0, 2.0, 3.0])["median"]
    2.5
    """
    ordered, count = sorted(values), len(values)
    percentiles = {p: ordered[max(0, math.ceil(count * p / 100) - 1)] for p in (25, 75, 95, 99)}
    return {
        "count": count,
        "mean": statistics.fmean(ordered),
        "min": ordered[0],
        "median": statistics.median(ordered),
        **{f"p{percent}": value for percent, value in percentiles.items()},
        "max": ordered[-1],
    }


def summaries(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """A summary of each clock that ran, by its name."""
    clocks = (field.name for field in dataclasses.fields(Sample))
    values = {clock: [getattr(sample, clock) for sample in samples] for clock in clocks}
    return {clock: summary(times) for clock, times in values.items() if None not in times}
