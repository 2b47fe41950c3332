"""Memory that may be used, from files as the kernel writes them."""

from pathlib import Path

import pytest

from scripts.official.memory import available_gb

GB = 10**9


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with 64 GB available."""
    lines = f"MemTotal: 99999999 kB\nMemAvailable:   {64 * GB // 1024} kB\n"
    put(tmp_path, "proc/meminfo", lines)
    return tmp_path


def test_without_control_groups(root: Path) -> None:
    assert available_gb(root) == pytest.approx(64)


def test_the_lowest_limit_around_the_process_counts(root: Path) -> None:
    put(root, "proc/self/cgroup", "0::/slurm/job_1/step_0\n")
    put(root, "sys/fs/cgroup/slurm/job_1/step_0/memory.max", "max\n")
    assert available_gb(root) == pytest.approx(64)
    put(root, "sys/fs/cgroup/slurm/job_1/memory.max", f"{2 * GB}\n")
    put(root, "sys/fs/cgroup/slurm/memory.max", f"{8 * GB}\n")
    put(root, "sys/fs/cgroup/slurm/job_2/memory.max", "1\n")  # another's
    assert available_gb(root) == 2


def test_the_first_version_of_control_groups(root: Path) -> None:
    groups = "5:cpu,cpuacct:/a\n4:memory:/docker/abc\n1:name=systemd:/\n0::/\n"
    put(root, "proc/self/cgroup", groups)
    # What a container sees of its own group, and of one without a limit.
    put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert available_gb(root) == pytest.approx(64)
    put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{3 * GB}\n")
    assert available_gb(root) == 3


def test_a_limit_above_what_is_free_is_none(root: Path) -> None:
    put(root, "proc/self/cgroup", "0::/\n")
    put(root, "sys/fs/cgroup/memory.max", f"{128 * GB}\n")
    assert available_gb(root) == pytest.approx(64)


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    assert available_gb(tmp_path) is None
