"""What a model costs under Shampoo in a world of ranks, from the optimizer's own code."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from scripts.benchmark import model_shapes
from scripts.benchmark.counting import Kernel, WorkCount
from scripts.plan_scale import ranks as plan_scale_ranks
from scripts.plan_scale.hardware import Hardware
from scripts.plan_scale.ranks import Rank, World
from submission.plan import blocking, ownership
from submission.plan.blocking import StackSpec
from submission.plan.refresh import RefreshSchedule
from submission.shampoo import roots
from submission.shampoo.config import DistributedConfig, ShampooConfig
from submission.shampoo.stack_group import StackGroup

# Per parameter and token; two of them forward (Kaplan et al. 2020, arXiv:2001.08361, 2.1).
_TRAINING_FLOPS = 6
# Ranks built times owners: a rank of the largest worlds takes its tens of seconds.
_ENOUGH = 8192


@dataclasses.dataclass(frozen=True)
class Question:
    """What is to be planned.

    Attributes:
      model: of `model_shapes.MODELS`.
      world: the ranks.
      config, distributed: the optimizer's.
      parameter_dtype: of weights and gradients.
      hardware: of each rank.
      efficiency: fraction of the hardware's peaks that kernels reach; assumed.
      with_tf32: whether float32 products run on tensor cores.
      tokens: per rank and step, for the training time of language models.
      step_seconds: forward and backward pass of other models; None where it is not known.
    """

    model: str
    world: World
    config: ShampooConfig
    distributed: DistributedConfig
    parameter_dtype: torch.dtype
    hardware: Hardware
    efficiency: float = 0.5
    with_tf32: bool = False
    tokens: int = 8192
    step_seconds: float | None = None


def answer(question: Question) -> dict[str, Any]:
    """The plan, as JSON values: bytes, operations and seconds of one rank and one step.

    Memory is that of the rank with the most among those that were built: the first, the costliest
    and the one with the most state. State is known of all.

    Raises:
      UserError: if `group_size` does not fit the world.
    """
    shapes = list(model_shapes.shapes(question.model).values())
    first = _build(question, shapes, 0)
    owners = Owners(first.layout.owned[0], question.config)
    built = {0: first}
    for number in (_largest(owners.costs), _largest(owners.states)):
        if number not in built and len(built) * len(owners.costs) < _ENOUGH:
            built[number] = _build(question, shapes, number)
    ranks = built.values()
    fullest = max(ranks, key=lambda rank: sum(rank.memory.values()))
    hardware, efficiency = question.hardware, question.efficiency
    refresh = _refresh(question, first, owners)
    seconds = {
        "step": max(
            hardware.seconds(rank.count.kernels, efficiency, question.with_tf32) for rank in ranks
        ),
        "refresh": refresh["seconds_slowest"],
        "communication": max(hardware.sending_seconds(rank.count.sent) for rank in ranks),
    }
    held = max(rank.memory["weights"] for rank in ranks)
    elements = held // question.parameter_dtype.itemsize
    # One pass that reads weights, gradients and both moments and writes all but the gradients.
    adamw_bytes = 3 * held + 4 * 4 * elements
    adamw = hardware.seconds([Kernel(0, adamw_bytes, torch.float32)], efficiency, False)
    return {
        "parameters": sum(map(math.prod, shapes)),
        "preconditioned": _preconditioned(first),
        "owners": len(owners.costs),
        "memory": fullest.memory,
        "memory_total": sum(fullest.memory.values()),
        "adamw_memory_total": 2 * held + 2 * 4 * elements,
        "state": {"max": max(owners.states), "mean": sum(owners.states) / len(owners.states)},
        "balance": max(owners.costs) * len(owners.costs) / sum(owners.costs),
        "flops": max(rank.count.flops for rank in ranks),
        "bytes": max(rank.count.bytes for rank in ranks),
        "bytes_sent": max(rank.bytes_sent for rank in ranks),
        "refresh": refresh,
        "seconds": seconds | {"total": sum(seconds.values()), "adamw": adamw},
        "training_seconds": _training_seconds(question, shapes),
        "ranks_built": sorted(built),
    }


def overhead(plan: Mapping[str, Any]) -> float | None:
    """How much longer a training step takes than with AdamW, as a fraction; None if unknown."""
    training, seconds = plan["training_seconds"], plan["seconds"]
    if training is None:
        return None
    return float((seconds["total"] - seconds["adamw"]) / (training + seconds["adamw"]))


def _build(question: Question, shapes: Sequence[tuple[int, ...]], number: int) -> Rank:
    return plan_scale_ranks.build(
        question.world,
        shapes,
        question.parameter_dtype,
        question.config,
        question.distributed,
        number,
    )


def _largest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


class Owners:
    """What each owner has to hold and to do.

    Args:
      layouts: the stacks of every owner.
      config: the optimizer's.
    """

    def __init__(self, layouts: Sequence[Sequence[StackSpec]], config: ShampooConfig) -> None:
        self.layouts, self._config = layouts, config
        self._state: dict[tuple[int, int, tuple[bool, bool]], int] = {}

    @cached_property
    def costs(self) -> list[float]:
        """Of each owner's blocks, see `ownership.block_cost`."""
        interval = self._config.refresh_interval
        return [
            sum(
                each.blocks * ownership.block_cost(each.height, each.width, each.sides, interval)
                for each in owned
            )
            for owned in self.layouts
        ]

    @cached_property
    def states(self) -> list[int]:
        """Bytes of each owner's state."""
        return [
            sum(each.blocks * self._state_of_block(each) for each in owned)
            for owned in self.layouts
        ]

    def _state_of_block(self, layout: StackSpec) -> int:
        """Every state tensor has a row per block, so one block tells of all."""
        key = layout.height, layout.width, layout.sides
        if key not in self._state:
            member = layout.parts[0]
            tile = dataclasses.replace(member.grid, rows=1, columns=1)
            one = dataclasses.replace(
                layout, parts=(dataclasses.replace(member, grid=tile, offset=0),)
            )
            group = StackGroup(
                [one], [member.index], self._config, torch.float32, torch.device("meta")
            )
            plan_scale_ranks.allocate(group.stacks[0], self._config)
            tensors = group.stacks[0].state_tensors().values()
            self._state[key] = sum(tensor.numel() * tensor.itemsize for tensor in tensors)
        return self._state[key]


def _preconditioned(rank: Rank) -> float:
    """The share of all elements that lie in blocks with a factor."""
    totals = {False: 0, True: 0}
    for plan in rank.layout.plans:
        for tile in plan.grids:
            totals[any(tile.sides)] += tile.blocks * tile.height * tile.width
    return totals[True] / sum(totals.values())


def _refresh(question: Question, rank: Rank, owners: Owners) -> dict[str, Any]:
    """Operations and seconds of refreshes per step: a rank's mean, and the slowest rank's.

    In a step all wait for the rank with the most to do, so its time is what counts; the schedule
    is the optimizer's own.
    """
    config = question.config
    plans = rank.layout.plans
    parts = (part for index, plan in enumerate(plans) for part in blocking.parts_of(index, plan))
    schedule = RefreshSchedule(blocking.stack_specs(parts))
    work: dict[int, tuple[float, float]] = {}
    slowest = [0.0] * config.refresh_interval
    flops = seconds = 0.0
    for layouts in owners.layouts:
        of_owner = schedule.restricted_to(layouts)
        for phase in range(config.refresh_interval):
            step = config.refresh_interval + phase
            here = 0.0
            for due in of_owner.due(step, config.refresh_interval, config.refresh):
                layout = layouts[due.stack]
                dimension = (layout.height, layout.width)[due.side]
                exponent = config.exponent or 1 / (2 * sum(layout.sides))
                if dimension not in work:
                    work[dimension] = _factor_work(question, dimension, exponent)
                flops += (due.stop - due.start) * work[dimension][0]
                here += (due.stop - due.start) * work[dimension][1]
            seconds += here
            slowest[phase] = max(slowest[phase], here)
    steps = config.refresh_interval * len(owners.layouts)
    return {
        "flops_mean": flops / steps,
        "seconds_mean": seconds / steps,
        "seconds_slowest": sum(slowest) / len(slowest),
        "seconds_worst_step": max(slowest),
    }


def _factor_work(question: Question, dimension: int, exponent: float) -> tuple[float, float]:
    """Operations and seconds of refreshing one factor.

    Counted where it takes matrix products only, which is the default on GPUs for inverse roots;
    otherwise as `ownership.block_cost` models it.
    """
    config = question.config
    solver = config.root_solver
    if solver == "auto" and exponent in (0.25, 0.5):
        solver = "newton_denman_beavers"
    if config.method == "shampoo" and solver not in ("auto", "eigh"):
        # Not of the meta device, on which there are no random numbers.
        with FakeTensorMode(), WorkCount() as count:
            factor = torch.empty(1, dimension, dimension)
            roots.by_products(factor, exponent, config.damping, solver)
        kernels, flops = count.kernels, float(count.flops)
    else:
        with_refresh, without = (
            ownership.block_cost(dimension, 1, (True, False), interval) for interval in (1, 2**62)
        )
        flops = with_refresh - without
        kernels = [Kernel(round(flops), 0, torch.float32)]
    time = question.hardware.seconds(kernels, question.efficiency, question.with_tf32)
    return flops, time


def _training_seconds(question: Question, shapes: Sequence[tuple[int, ...]]) -> float | None:
    if question.step_seconds is not None:
        return question.step_seconds
    if question.model not in model_shapes.LANGUAGE_MODELS:
        return None
    flops = _TRAINING_FLOPS * sum(map(math.prod, shapes)) * question.tokens
    kernel = Kernel(flops, 0, torch.bfloat16)
    return question.hardware.seconds([kernel], question.efficiency, question.with_tf32)
