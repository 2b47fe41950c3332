"""How much memory a process may have here: the machine's, and the limits of its control groups."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_V1, _V2 = "memory.limit_in_bytes", "memory.max"


def available_gb(root: Path = Path("/")) -> float | None:
    """Memory in units of 1e9 bytes; None where the system does not say.

    The machine's available memory, or the lowest limit of a control group that this process is in,
    as Slurm and containers set them, if that is less.

    Args:
      root: of the file system, for tests.
    """
    try:
        lines = (root / "proc/meminfo").read_text("utf-8").splitlines()
        kib = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):  # no Linux
        return None
    amounts = [*(1024 * amount for amount in kib), *_limits(root)]
    return min(amounts) / 1e9 if amounts else None


def _limits(root: Path) -> Iterator[int]:
    """Limits in bytes of all control groups around this process; one may have none."""
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            folder, name = mount, _V2
        elif "memory" in controllers.split(","):
            folder, name = mount / "memory", _V1
        else:
            continue
        # A container sees its own group as the root, whatever the group's name is outside.
        below = PurePosixPath(group).relative_to("/")
        for path in (below, *below.parents):
            try:
                limit = (folder / path / name).read_text("utf-8").strip()
            except OSError:
                continue
            if limit.isdecimal():  # else "max"
                yield int(limit)
