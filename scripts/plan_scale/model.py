"""Memory, work and time of a model under Shampoo on many ranks, from the optimizer's code."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from scripts.benchmark import model_shapes
from scripts.benchmark.counting import Kernel, WorkCount
from scripts.plan_scale.hardware import Bounds, Hardware
from scripts.plan_scale.ranks import Rank, World, build_rank
from submission.plan import blocking, ownership
from submission.plan.blocking import StackSpec
from submission.plan.refresh import RefreshSchedule
from submission.plan.solvers import TF32_DAMPING, resolve_root_solver
from submission.shampoo import roots
from submission.shampoo.config import DistributedConfig, ShampooConfig
from submission.shampoo.stack import block_bytes, needed_moments

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

    def bounds(self, kernels: Iterable[Kernel]) -> Bounds:
        """Modelled times of kernels one after the other."""
        return self.hardware.bounds(kernels, self.efficiency, self.with_tf32)

    def seconds(self, kernels: Iterable[Kernel]) -> float:
        """Modelled time of kernels one after the other."""
        return self.bounds(kernels).total


@dataclasses.dataclass(frozen=True)
class Built:
    """What of a question's answer does not depend on the hardware.

    Attributes:
      ranks: by number, the first, the costliest and the one with the most state.
      specs: the stacks of every owner.
      costs, states: of every owner, as `owner_costs` and `owner_states` have them.
    """

    ranks: Mapping[int, Rank]
    specs: Sequence[Sequence[StackSpec]]
    costs: Sequence[float]
    states: Sequence[int]


def build(question: Question) -> Built:
    """Builds ranks and takes a step with them.

    Raises:
      UserError: if `group_size` does not fit the world.
    """
    shapes = list(model_shapes.shapes(question.model).values())

    rank = functools.partial(
        build_rank,
        question.world,
        shapes,
        question.parameter_dtype,
        question.config,
        question.distributed,
    )
    ranks = {0: rank(0)}
    specs = ranks[0].layout.placed_stacks[0].specs
    costs, states = owner_costs(specs, question.config), owner_states(specs, question.config)
    for number in (costs.index(max(costs)), states.index(max(states))):
        if number not in ranks and len(ranks) * len(costs) < _ENOUGH:
            ranks[number] = rank(number)
    return Built(ranks, specs, costs, states)


def answer(question: Question, built: Built | None = None) -> dict[str, Any]:
    """The plan, as JSON values: bytes, operations and seconds of one rank and one step.

    Memory is that of the rank with the most among those that were built. State is known of all.

    Args:
      question: what is asked.
      built: `build` of it or of a question that differs in hardware, efficiency, precision or
        training alone; None: is made.

    Raises:
      UserError: if `group_size` does not fit the world.
    """
    built = built or build(question)
    shapes = list(model_shapes.shapes(question.model).values())
    ranks, costs, states = built.ranks.values(), built.costs, built.states
    fullest = max(ranks, key=lambda rank: sum(rank.memory.values()))
    refresh = _refresh(question, built.ranks[0], built.specs)
    step = _longest(question.bounds(rank.count.kernels) for rank in ranks)
    sending_seconds = question.hardware.sending_seconds
    seconds = {
        "step": step.total,
        "refresh": refresh["seconds_slowest"],
        "communication": max(sending_seconds(rank.count.sent) for rank in ranks),
    }
    weights = max(rank.memory["weights"] for rank in ranks)
    elements = weights // question.parameter_dtype.itemsize
    adamw = question.seconds([adamw_kernel(elements, question.parameter_dtype)])
    return {
        "parameters": sum(map(math.prod, shapes)),
        "preconditioned": _preconditioned(built.ranks[0]),
        "owners": len(costs),
        "memory": fullest.memory,
        "memory_total": sum(fullest.memory.values()),
        "adamw_memory_total": 2 * weights + 2 * 4 * elements,
        "state": {"max": max(states), "mean": sum(states) / len(states)},
        "balance": max(costs) * len(costs) / sum(costs),
        "flops": max(rank.count.flops for rank in ranks),
        "bytes": max(rank.count.bytes for rank in ranks),
        "kernels": max(len(rank.count.kernels) for rank in ranks),
        "bytes_sent": max(rank.bytes_sent for rank in ranks),
        "refresh": refresh,
        "seconds": seconds | {"total": sum(seconds.values()), "adamw": adamw},
        "step_bounds": dataclasses.asdict(step),
        "training_seconds": _training_seconds(question, shapes),
        "ranks_built": sorted(built.ranks),
    }


def adamw_kernel(elements: int, dtype: torch.dtype) -> Kernel:
    """AdamW's fused step: one pass that reads weights, gradients and both moments in float32.

    It writes all but the gradients.
    """
    return Kernel(0, elements * (3 * dtype.itemsize + 4 * 4), torch.float32)


def _longest(bounds: Iterable[Bounds]) -> Bounds:
    return max(bounds, key=lambda bound: bound.total)


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
            moments = needed_moments(config.betas, config.momentum)
            sizes[key] = block_bytes(spec, config, torch.float32, moments)
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
    is the optimizer's own. Factors of a stack that are due together are refreshed together.
    """
    config, interval = question.config, question.config.refresh_interval
    plans = enumerate(rank.layout.plans)
    parts = (part for index, plan in plans for part in blocking.parts_of(index, plan))
    schedule = RefreshSchedule(blocking.stack_specs(parts))
    slowest = [Bounds()] * interval
    flops = seconds = 0.0

    @functools.cache
    def work(dimension: int, exponent: float, factors: int) -> tuple[float, Bounds]:
        kernels = _factor_kernels(config, dimension, exponent)
        batched = [Kernel(factors * k.flops, factors * k.bytes, k.dtype) for k in kernels]
        with_tf32 = question.with_tf32 and _may_round(config, exponent)
        bounds = question.hardware.bounds(batched, question.efficiency, with_tf32)
        return float(sum(kernel.flops for kernel in batched)), bounds

    for owned in specs:
        of_owner = schedule.restricted_to(owned)
        for phase, ranges in of_owner.phases(interval, config.refresh).items():
            bounds_of_step = Bounds()
            for due in ranges:
                spec = owned[due.stack]
                dimension = (spec.height, spec.width)[due.side]
                exponent = config.inverse_power or 1 / (2 * sum(spec.sides))
                flops_of_range, bounds = work(dimension, exponent, due.stop - due.start)
                flops += flops_of_range
                bounds_of_step += bounds
            seconds += bounds_of_step.total
            slowest[phase] = _longest([slowest[phase], bounds_of_step])
    steps = interval * len(specs)
    mean = sum(slowest, start=Bounds()) * (1 / interval)
    return {
        "flops_mean": flops / steps,
        "seconds_mean": seconds / steps,
        "seconds_slowest": mean.total,
        "seconds_worst_step": _longest(slowest).total,
        "bounds": dataclasses.asdict(mean),
    }


def _takes_products(config: ShampooConfig, exponent: float) -> bool:
    solver = resolve_root_solver(config.root_solver, exponent, accelerated=True)
    return config.method == "shampoo" and solver == "products"


def _may_round(config: ShampooConfig, exponent: float) -> bool:
    """Whether a refresh follows a user's setting of TF32, as `roots.by_products` does."""
    is_even = round(1 / exponent) % 2 == 0
    return _takes_products(config, exponent) and is_even and config.damping >= TF32_DAMPING


def _factor_kernels(config: ShampooConfig, dimension: int, exponent: float) -> Sequence[Kernel]:
    """What refreshing one factor takes.

    Counted where it takes matrix products only, which is the default on GPUs for inverse roots;
    otherwise as `ownership.block_cost` models it.
    """
    if _takes_products(config, exponent):
        return _root_kernels(dimension, exponent, config.damping)
    with_refresh, without = (
        ownership.block_cost(dimension, 1, (True, False), interval) for interval in (1, 2**62)
    )
    return [Kernel(round(with_refresh - without), 0, torch.float32)]


@functools.cache
def _root_kernels(dimension: int, exponent: float, damping: float) -> Sequence[Kernel]:
    with WorkCount() as count:
        roots.by_products(torch.empty(1, dimension, dimension, device="meta"), exponent, damping)
    return count.kernels


def _training_seconds(question: Question, shapes: Sequence[tuple[int, ...]]) -> float | None:
    if question.step_seconds is not None:
        return question.step_seconds
    if question.model not in model_shapes.LANGUAGE_MODELS:
        return None
    flops = _TRAINING_FLOPS * sum(map(math.prod, shapes)) * question.tokens
    return question.seconds([Kernel(flops, 0, torch.bfloat16)])
