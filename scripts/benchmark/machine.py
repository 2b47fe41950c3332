"""The machine that a benchmark runs on: its flags, device, free memory, settings, load."""

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from absl import flags

from common.cli import UserError
from scripts.local import environment, supervisor


def define_flags(output: str, with_tiny: bool = False) -> None:
    """Declares where to compute, where to write to, and for parts of the GPU checks `--tiny`."""
    flags.DEFINE_enum("device", "cpu", ["cpu", "cuda"], "where to compute")
    flags.DEFINE_string("output", output, "folder for the results")
    if with_tiny:
        flags.DEFINE_bool("tiny", False, "small sizes, to try the command")


def device(name: str) -> torch.device:
    """The device of `--device`; UserError if torch has none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device: cuda is not available here; allowed: cpu")
    return torch.device(name)


def most_memory(device: torch.device) -> float:
    """Bytes that a benchmark may take on a device: four fifths of what is free."""
    if device.type == "cuda":
        return 0.8 * torch.cuda.mem_get_info(device)[0]
    return supervisor.most_memory()


def conditions(device: torch.device) -> dict[str, Any]:
    """Machine, versions and thread settings, as JSON values."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        **environment.describe(),
    }


class LoadMeter:
    """Measures load and the CPU share of other processes from its construction on."""

    def __init__(self) -> None:
        self._start = time.monotonic(), _busy_seconds() - time.process_time()

    def report(self) -> dict[str, float]:
        """`seconds` since the start, `load_average` of one minute, `others_cpu_share` in [0, 1]."""
        seconds = time.monotonic() - self._start[0]
        other_seconds = _busy_seconds() - time.process_time() - self._start[1]
        available = seconds * len(environment.available_cores())
        return {
            "seconds": seconds,
            "load_average": psutil.getloadavg()[0],
            "others_cpu_share": min(1.0, max(0.0, other_seconds / available)) if available else 0.0,
        }


def _busy_seconds() -> float:
    """CPU time spent by all processes since the system's start; guests are in user and nice."""
    times = psutil.cpu_times()._asdict()
    idle = ("idle", "iowait", "guest", "guest_nice")
    return float(sum(value for name, value in times.items() if name not in idle))


@contextmanager
def collector_off() -> Iterator[None]:
    """Keeps Python's garbage collector from running, which would slow down single steps."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
