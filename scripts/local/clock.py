"""The submission's clock: it runs only while the submission works, on the slowest rank."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from scripts.local import ranks


class SubmissionClock:
    """Accumulates wall and process CPU seconds of the blocks it is `running` in.

    Attributes:
      wall, cpu: seconds up to the last `add_slowest`, of each block on the rank that took longest.
    """

    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu = 0.0
        self._block = 0.0, 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Takes this rank's time of the block, including device work that it queued."""
        wall, cpu = now(), time.process_time()
        try:
            yield
        finally:
            self._block = now() - wall, time.process_time() - cpu

    def add_slowest(self, *values: float) -> tuple[float, ...]:
        """Counts the last block, once, and returns the values' maxima over the ranks.

        A collective: one for the time and what else the ranks must agree on after each step.
        """
        wall, cpu, *agreed = ranks.maximum(*self._block, *values)
        self.wall += wall
        self.cpu += cpu
        self._block = 0.0, 0.0
        return tuple(agreed)


def now() -> float:
    """Monotonic seconds once the device is idle."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
