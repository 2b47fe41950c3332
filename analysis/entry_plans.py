"""What our entry needs on each official workload: memory, work, and how it treats embedding tables.

Nothing here was measured: shapes of the benchmark's models go through the optimizer's own code, as
in `scripts.plan_scale`.
"""

import dataclasses
import functools
import math
import types
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from common import documents
from scripts.benchmark import model_shapes
from scripts.local import entries
from scripts.plan_scale.hardware import HARDWARE, Hardware
from scripts.plan_scale.model import Question, answer
from scripts.plan_scale.ranks import World
from submission.algoperf_api.batch_sizes import get_shampoo_batch_size
from submission.entries.shampoo.submission import make_optimizer
from submission.plan.blocking import plan_parameter
from submission.plan.ownership import block_cost
from submission.shampoo import Shampoo
from submission.shampoo.config import OPTIONS, DistributedConfig, ShampooConfig
from workloads import search_space
from workloads.rulesets import ruleset

_GPUS: Mapping[str, tuple[int, Hardware]] = {
    "v1.0": (4, HARDWARE["a100_40gb"]),
    "v0.6": (8, HARDWARE["v100"]),
}
_GIB = 2**30
# As by `Shampoo` itself.
_DEFAULT_MAX_DIM = ShampooConfig.max_dim
# Of two dimensions and at least so many rows: the models' embeddings, but for ogbg's small ones.
_MANY_ROWS = 2**14


def points(entry: str) -> list[search_space.Point]:
    """The points of an entry for external tuning."""
    return search_space.points(entries.folder(entry) / "tuning_search_space.json")


def external_points() -> list[types.SimpleNamespace]:
    """The points of the external entry."""
    return [types.SimpleNamespace(**point) for point in points("shampoo")]


def costliest_point() -> types.SimpleNamespace:
    """The external entry's point with the most state, which is that with momentum."""
    return max(external_points(), key=lambda point: float(point.momentum))


def optimizer(workload: str) -> Shampoo:
    """Our entry's optimizer of a workload's parameters, on the meta device."""
    named = [
        (name, torch.empty(shape, device="meta", requires_grad=True))
        for name, shape in model_shapes.shapes(workload).items()
    ]
    return make_optimizer(named, costliest_point())


@functools.cache
def plan(workload: str, version: str) -> dict[str, Any]:
    """`scripts.plan_scale.model.answer` for our entry on a version's GPUs, weights in float32."""
    gpus, hardware = _GPUS[version]
    group = make_optimizer([torch.zeros(2, 2)], costliest_point()).param_groups[0]
    question = Question(
        model=workload,
        world=World(gpus, 1, False),
        config=_config(group),
        distributed=DistributedConfig(),
        parameter_dtype=torch.float32,
        hardware=hardware,
        # The benchmark asks for it from v1.0 on (`pytorch_utils.pytorch_setup`).
        with_tf32=version == "v1.0",
    )
    return answer(question)


def _config(group: Mapping[str, Any]) -> ShampooConfig:
    return ShampooConfig(**{name: group[name] for name in OPTIONS})


def added_seconds(workload: str) -> float:
    """How much longer than AdamW's our step is on v1.0's GPUs, as modelled at half their peaks."""
    seconds = plan(workload, "v1.0")["seconds"]
    return float(seconds["total"] - seconds["adamw"])


def memory_table() -> str:
    """Memory per GPU by workload and version, activations left out."""
    rows = []
    for workload in ruleset("v1.0").base_workloads:
        plans = {
            version: plan(workload, version)
            for version in _GPUS
            if workload in ruleset(version).base_workloads
        }
        newest = plans["v1.0"]
        rows.append(
            {
                "workload": workload,
                "weights, with factors": (
                    f"{newest['parameters'] / 1e6:,.1f} M, {newest['preconditioned']:.0%}"
                ),
                **_columns("v1.0", workload, newest),
                "AdamW's": _gib(newest["adamw_memory_total"]),
                **_columns("v0.6", workload, plans.get("v0.6")),
            }
        )
    return documents.table(rows)


def _columns(version: str, workload: str, planned: Mapping[str, Any] | None) -> dict[str, str]:
    gpus, hardware = _GPUS[version]
    names = [
        f"{gpus} x {hardware.capacity / 1e9:.0f} GB: {what}" for what in ("rows", "state", "all")
    ]
    if planned is None:
        return dict.fromkeys(names, documents.UNKNOWN)
    rows = f"{get_shampoo_batch_size(workload) // gpus:,}"
    sizes = (_gib(planned["state"]["max"]), _gib(planned["memory_total"]))
    return dict(zip(names, (rows, *sizes), strict=True))


def embedding_table() -> str:
    """How the models' tables are treated, and what that costs beside AdamW's step for them."""
    rows = []
    for workload in ruleset("v1.0").base_workloads:
        config = _config(optimizer(workload).param_groups[0])
        shapes = list(model_shapes.shapes(workload).values())
        work = math.fsum(_work(shape, config) for shape in shapes)
        for shape in sorted({shape for shape in shapes if _is_table(shape)}):
            own = dataclasses.replace(config, max_dim=_DEFAULT_MAX_DIM)
            count = shapes.count(shape)
            rows.append(
                {
                    "workload": workload,
                    "table": f"[{shape[0]:,}, {shape[1]:,}]{f' x {count}' if count > 1 else ''}",
                    "in our entries": treatment(shape, config),
                    "share of all work": f"{count * _work(shape, config) / work:.0%}",
                    f"by default (max_dim={_DEFAULT_MAX_DIM})": treatment(shape, own),
                    "by `parameter_groups`": treatment(
                        shape, dataclasses.replace(config, table=True)
                    ),
                }
            )
    return documents.table(rows)


def treatment(shape: Sequence[int], config: ShampooConfig) -> str:
    """How a parameter of a shape is moved: by AdamW, or by Shampoo in which blocks."""
    planned = plan_parameter(shape, config)
    if planned.reason:
        return "AdamW"
    blocks = [f"{grid.blocks} x [{grid.height}, {grid.width}]" for grid in planned.grids]
    return f"Shampoo, {' + '.join(blocks)}"


def _is_table(shape: Sequence[int]) -> bool:
    return len(shape) == 2 and shape[0] >= _MANY_ROWS


def _work(shape: Sequence[int], config: ShampooConfig) -> float:
    grids = plan_parameter(shape, config).grids
    return math.fsum(
        grid.blocks * block_cost(grid.height, grid.width, grid.sides, config.refresh_interval)
        for grid in grids
    )


def _gib(size: float) -> str:
    return f"{size / _GIB:.2f}"
