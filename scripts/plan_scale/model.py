"""Memory, work and time of a model under Shampoo on many ranks, from the optimizer's code."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from scripts.benchmark import model_shapes
from scripts.benchmark.counting import Kernel, WorkCount
from scripts.plan_scale.hardware import Hardware
from scripts.plan_scale.ranks import Rank, World, build_rank
from submission.plan import blocking, ownership
from submission.plan.blocking import StackSpec
from submission.plan.refresh import RefreshSchedule
from submission.shampoo import roots
from submission.shampoo.config import DistributedConfig, ShampooConfig
from submission.shampoo.stack_group import block_bytes

# Per parameter and token; two of them forward (Kaplan et al. 2020, arXiv:2001.08361, 2.1).
_TRAINING_FLOPS = 6
# Ranks built times owners: a rank of the largest worlds takes its tens of seconds.
_ENOUGH = 8192


@dataclasses.dataclass(frozen=True)
class Question:
    """Model, world, options and hardware of a plan.

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

    def seconds(self, kernels: Iterable[Kernel]) -> float:
        """Modelled time of kernels one after the other."""
        return self.hardware.seconds(kernels, self.efficiency, self.with_tf32)


def answer(question: Question) -> dict[str, Any]:
    """The plan, as JSON values: bytes, operations and seconds of one rank and one step.

    Memory is that of the rank with the most among those that were built: the first, the costliest
    and the one with the most state. State is known of all.

    Raises:
      UserError: if `group_size` does not fit the world.
    """
    shapes = list(model_shapes.shapes(question.model).values())

    def build(number: int) -> Rank:
        return build_rank(
            question.world,
            shapes,
            question.parameter_dtype,
            question.config,
            question.distributed,
            number,
        )

    built = {0: build(0)}
    specs = built[0].layout.owned[0]
    costs, states = owner_costs(specs, question.config), owner_states(specs, question.config)
    for number in (costs.index(max(costs)), states.index(max(states))):
        if number not in built and len(built) * len(costs) < _ENOUGH:
            built[number] = build(number)
    ranks = built.values()
    fullest = max(ranks, key=lambda rank: sum(rank.memory.values()))
    refresh = _refresh(question, built[0], specs)
    sending_seconds = question.hardware.sending_seconds
    seconds = {
        "step": max(question.seconds(rank.count.kernels) for rank in ranks),
        "refresh": refresh["seconds_slowest"],
        "communication": max(sending_seconds(rank.count.sent) for rank in ranks),
    }
    weights = max(rank.memory["weights"] for rank in ranks)
    elements = weights // question.parameter_dtype.itemsize
    # One pass that reads weights, gradients and both moments and writes all but the gradients.
    adamw = question.seconds([Kernel(0, 3 * weights + 4 * 4 * elements, torch.float32)])
    return {
        "parameters": sum(map(math.prod, shapes)),
        "preconditioned": _preconditioned(built[0]),
        "owners": len(costs),
        "memory": fullest.memory,
        "memory_total": sum(fullest.memory.values()),
        "adamw_memory_total": 2 * weights + 2 * 4 * elements,
        "state": {"max": max(states), "mean": sum(states) / len(states)},
        "balance": max(costs) * len(costs) / sum(costs),
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


def owner_costs(specs: Sequence[Sequence[StackSpec]], config: ShampooConfig) -> list[float]:
    """Costs of each owner's blocks (`ownership.block_cost`) by the stacks of every owner."""

    def cost(spec: StackSpec) -> float:
        interval = config.refresh_interval
        return ownership.block_cost(spec.height, spec.width, spec.sides, interval)

    return [sum(spec.blocks * cost(spec) for spec in owned) for owned in specs]


def owner_states(specs: Sequence[Sequence[StackSpec]], config: ShampooConfig) -> list[int]:
    """Bytes of each owner's state, by the stacks of every owner."""
    sizes: dict[tuple[int, int, tuple[bool, bool]], int] = {}

    def size(spec: StackSpec) -> int:
        key = spec.height, spec.width, spec.sides
        if key not in sizes:
            has_first, has_velocity = config.betas[0] > 0, config.momentum > 0
            sizes[key] = block_bytes(spec, config, torch.float32, has_first, has_velocity)
        return sizes[key]

    return [sum(spec.blocks * size(spec) for spec in owned) for owned in specs]


def _preconditioned(rank: Rank) -> float:
    """The share of all elements that lie in blocks with a factor."""
    grids = [grid for plan in rank.layout.plans for grid in plan.grids]
    with_factors = sum(grid.elements for grid in grids if any(grid.sides))
    return with_factors / sum(grid.elements for grid in grids)


def _refresh(
    question: Question, rank: Rank, specs: Sequence[Sequence[StackSpec]]
) -> dict[str, Any]:
    """Operations and seconds of refreshes per step: a rank's mean, and the slowest rank's.

    In a step all wait for the rank with the most to do, so its time is what counts; the schedule
    is the optimizer's own.
    """
    config, interval = question.config, question.config.refresh_interval
    plans = enumerate(rank.layout.plans)
    parts = (part for index, plan in plans for part in blocking.parts_of(index, plan))
    schedule = RefreshSchedule(blocking.stack_specs(parts))
    work: dict[int, tuple[float, float]] = {}
    slowest = [0.0] * interval
    flops = seconds = 0.0
    for owned in specs:
        of_owner = schedule.restricted_to(owned)
        for phase in range(interval):
            seconds_of_step = 0.0
            for due in of_owner.due(interval + phase, interval, config.refresh):
                spec, factors = owned[due.stack], due.stop - due.start
                dimension = (spec.height, spec.width)[due.side]
                exponent = config.inverse_power or 1 / (2 * sum(spec.sides))
                if dimension not in work:
                    work[dimension] = _factor_work(question, dimension, exponent)
                flops += factors * work[dimension][0]
                seconds_of_step += factors * work[dimension][1]
            seconds += seconds_of_step
            slowest[phase] = max(slowest[phase], seconds_of_step)
    steps = interval * len(specs)
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
    if config.method == "shampoo" and roots.resolve(solver, exponent, queued=True) == "products":
        # Not of the meta device, on which there are no random numbers.
        with FakeTensorMode(), WorkCount() as count:
            factor = torch.empty(1, dimension, dimension)
            roots.by_products(factor, exponent, config.damping)
        kernels, flops = count.kernels, float(count.flops)
    else:
        with_refresh, without = (
            ownership.block_cost(dimension, 1, (True, False), interval) for interval in (1, 2**62)
        )
        flops = with_refresh - without
        kernels = [Kernel(round(flops), 0, torch.float32)]
    return flops, question.seconds(kernels)


def _training_seconds(question: Question, shapes: Sequence[tuple[int, ...]]) -> float | None:
    if question.step_seconds is not None:
        return question.step_seconds
    if question.model not in model_shapes.LANGUAGE_MODELS:
        return None
    flops = _TRAINING_FLOPS * sum(map(math.prod, shapes)) * question.tokens
    return question.seconds([Kernel(flops, 0, torch.bfloat16)])
