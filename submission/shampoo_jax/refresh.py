"""Which blocks of a stack are refreshed at a step, and the loop over them; traced.

The order and the phases come from `plan.refresh`; a step finds its range in a table, so that
whatever is due costs one compiled body and a loop whose length is read from the device.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ..plan.blocking import StackSpec
from ..plan.refresh import RefreshSchedule, is_early
from .blocks import Blocks, replaced


class Due(NamedTuple):
    """Blocks [start, stop) of a stack whose factor of one side is refreshed; int32 scalars."""

    start: Array
    stop: Array

    def where(self, condition: Array) -> "Due":
        """These if the condition holds, else none."""
        return Due(self.start, jnp.where(condition, self.stop, self.start))


class Lanes(NamedTuple):
    """Which part of a stack's lanes a device holds: `local` of `total`, from `first` on."""

    total: int
    local: int
    first: Array | int


def due_blocks(
    specs: Sequence[StackSpec], calls: Array, interval: int, mode: str
) -> list[dict[int, Due]]:
    """What is due in each stack, by side.

    Args:
      specs: all stacks.
      calls: the step's number, from 1, int32.
      interval: steps between two refreshes of a factor.
      mode: "staggered" or "together".
    """
    early = is_early(calls, interval)
    tables = _tables(tuple(specs), interval, mode)
    phase = calls % interval
    due: list[dict[int, Due]] = []
    for number, spec in enumerate(specs):
        due.append({})
        for side in (0, 1):
            if spec.sides[side]:
                phases, *bounds = tables[number, side]
                start, stop = (jnp.where(phases == phase, bound, 0).sum() for bound in bounds)
                due[-1][side] = Due(
                    jnp.where(early, 0, start).astype(jnp.int32),
                    jnp.where(early, spec.blocks, stop).astype(jnp.int32),
                )
    return due


@functools.lru_cache(maxsize=64)
def _tables(
    specs: tuple[StackSpec, ...], interval: int, mode: str
) -> Mapping[tuple[int, int], np.ndarray]:
    """By (stack, side): phases with something due, first blocks and those after the last, int32."""
    rows: dict[tuple[int, int], list[tuple[int, int, int]]] = {
        (number, side): [] for number in range(len(specs)) for side in (0, 1)
    }
    for phase, ranges in RefreshSchedule(specs).phases(interval, mode).items():
        for due in ranges:
            rows[due.stack, due.side].append((phase, due.start, due.stop))
    return {key: np.array(row, np.int32).reshape(-1, 3).T for key, row in rows.items()}


def refresh_blocks(
    state: Blocks,
    names: Sequence[str],
    due: Due,
    lanes: Lanes,
    body: Callable[[Blocks], Blocks],
) -> Blocks:
    """Replaces parts of a stack's state by what `body` makes of them, block by block where due.

    Args:
      state: arrays [lanes.local * rows, ...].
      names: of what `body` changes.
      due: the blocks.
      lanes: those of this device; blocks of other lanes are passed over.
      body: takes the state of one block without the leading dimension, all of it, and returns
        what `names` names.

    Returns:
      The state, changed where due.
    """
    rows = len(state[names[0]]) // lanes.local

    def trip(number: Array, changed: Blocks) -> Blocks:
        row, lane = number // lanes.total, number % lanes.total - lanes.first
        is_own = (lane >= 0) & (lane < lanes.local)
        index = (jnp.clip(lane, 0, lanes.local - 1) * rows + row).astype(jnp.int32)
        condition = is_own if lanes.local < lanes.total else None
        work = _renewing(body, names, condition)
        return replaced(lambda block: work(_tied(block, number)), state, changed, index)

    changed: Any = lax.fori_loop(due.start, due.stop, trip, {name: state[name] for name in names})
    return {**state, **changed}


def _renewing(
    body: Callable[[Blocks], Blocks], names: Sequence[str], condition: Array | None
) -> Callable[[Blocks], Blocks]:
    """The body as a function of arrays [1, ...], which changes nothing if a condition is false."""

    def work(block: Blocks) -> Blocks:
        new = body({name: _lengthened(array[0]) for name, array in block.items()})
        return {name: new[name].astype(block[name].dtype)[None] for name in names}

    def unchanged(block: Blocks) -> Blocks:
        return {name: block[name] for name in names}

    if condition is None:
        return work
    return lambda block: lax.cond(condition, work, unchanged, block)


def _tied(block: Blocks, number: Array) -> Blocks:
    """The block, for the compiler a function of the trip's number.

    What takes the same in every trip is moved out of loops and computed even if no trip is: the
    decompositions of a stack of a single block would be taken at every step.
    """
    block, _ = lax.optimization_barrier((block, number))
    return block


def _lengthened(array: Array) -> Array:
    return array.astype(jnp.float32) if array.dtype == jnp.bfloat16 else array
