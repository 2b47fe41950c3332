"""The disk that a trial's checkpoints take, and the memory that its processes may have here."""

import functools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import psutil

from scripts.benchmark import model_shapes
from scripts.official.trial import OfficialTrial
from submission.entries.shampoo.options import MAX_DIM
from submission.plan.blocking import plan_parameter
from submission.plan.options import BlockingConfig
from workloads import registry

_V1, _V2 = "memory.limit_in_bytes", "memory.max"


def trial_gb(trial: OfficialTrial) -> float:
    """The size of a trial's checkpoint under Shampoo, the entry with the most state."""
    momentum: object = trial.trial.hyperparameters.get("momentum", 0.0)
    return checkpoint_gb(
        trial.trial.workload, momentum=isinstance(momentum, int | float) and momentum > 0
    )


@functools.cache
def checkpoint_gb(workload: str, momentum: bool) -> float:
    """An upper estimate of a checkpoint's size on disk, in units of 1e9 bytes.

    Weights, two moments, the buffer of heavy-ball momentum if there is one, and Shampoo's factors
    with their roots, all as float32. Where the registry has no shapes, twelve numbers per weight.
    """
    facts = registry.official(workload)
    if facts.base_name not in model_shapes.MODELS:
        return 4 * 12 * facts.model.parameters / 1e9
    shapes = model_shapes.shapes(facts.base_name).values()
    factors = _factor_numbers(shapes) / sum(map(math.prod, shapes))
    return 4 * (3 + momentum + factors) * facts.model.parameters / 1e9


def _factor_numbers(shapes: Iterable[tuple[int, ...]]) -> int:
    """Elements of all factors and of their roots, as the entry cuts parameters into blocks."""
    config, count = BlockingConfig(max_dim=MAX_DIM), 0
    for grid in (grid for shape in shapes for grid in plan_parameter(shape, config).grids):
        left, right = grid.sides
        count += grid.blocks * (left * grid.height**2 + right * grid.width**2)
    return 2 * count


def available_gb(root: Path = Path("/")) -> float:
    """Memory that this process may take, in units of 1e9 bytes.

    The machine's available memory, or the lowest limit of a control group that this process is in,
    as Slurm and containers set them, if that is less.

    Args:
      root: of the control groups' files, for tests.
    """
    return min([psutil.virtual_memory().available, *_limits(root)]) / 1e9


def _limits(root: Path) -> Iterator[int]:
    """Limits in bytes of all control groups around this process; a group may have none."""
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:  # no Linux
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
