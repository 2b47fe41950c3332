"""The submission's clock: it runs only while the submission works."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class SubmissionClock:
    """Accumulates wall and process CPU seconds of the blocks it is `running` in."""

    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the block's time, including device work that it queued."""
        wall, cpu = now(), time.process_time()
        try:
            yield
        finally:
            self.wall += now() - wall
            self.cpu += time.process_time() - cpu


def now() -> float:
    """Monotonic seconds once the device is idle."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
