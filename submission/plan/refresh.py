"""Which factors are refreshed at which step; host arithmetic only, no tensors."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from .blocking import StackSpec
from .options import REFRESHES, check_choice


def is_due(step: int, interval: int) -> bool:
    """Whether every factor is refreshed together at a step, counted from 1.

    Every `interval` steps, and at each power of four before the first: the earliest factors
    change the most, and no step goes without a preconditioner.

    >>> [step for step in range(1, 41) if is_due(step, 20)]
    [1, 4, 16, 20, 40]
    """
    return is_early(step, interval) or step % interval == 0


def is_early(step: Any, interval: int) -> Any:
    """Whether a step is a power of four below the interval; `step` may be an integer of JAX.

    >>> [step for step in range(1, 100) if is_early(step, 64)]
    [1, 4, 16]
    """
    # One bit is set, and its place is an even one.
    return (step < interval) & (step & (step - 1) == 0) & (step & 0x55555555 != 0)


class FactorRange(NamedTuple):
    """A contiguous range of one stack's blocks, and one side of them.

    Attributes:
      stack: index of the stack.
      side: 0 for the left factor, 1 for the right.
      start, stop: first block and the one after the last.
    """

    stack: int
    side: int
    start: int
    stop: int


class RefreshSchedule:
    """Which factors of one rank's stacks are due at a step.

    All factors of a parameter group are laid out in one order, each as long as its cost, the cube
    of its dimension. In "staggered" mode the phases of an interval cut that order into equal
    lengths: a factor belongs to the phase in which it begins, so no phase has more work than the
    mean and one factor. The order knows nothing of ranks or devices, so a factor is due at the
    same step on whichever rank it lies.

    Args:
      specs: the stacks of the whole group.

    >>> from .blocking import BlockingConfig, parts_of, plan_parameter, stack_specs
    >>> plan = plan_parameter((16, 16), BlockingConfig(block_size=8))
    >>> schedule = RefreshSchedule(stack_specs(parts_of(0, plan)))
    >>> schedule.due(12, 4, "together")
    (FactorRange(stack=0, side=0, start=0, stop=4), FactorRange(stack=0, side=1, start=0, stop=4))
    >>> for step in range(12, 16):
    ...     print(*schedule.due(step, 4, "staggered"))
    FactorRange(stack=0, side=0, start=0, stop=2)
    FactorRange(stack=0, side=0, start=2, stop=4)
    FactorRange(stack=0, side=1, start=0, stop=2)
    FactorRange(stack=0, side=1, start=2, stop=4)
    """

    def __init__(self, specs: Sequence[StackSpec]) -> None:
        self._begin: dict[tuple[int, int, int], int] = {}
        self._total = 0
        for spec in specs:
            for side, dimension in _sides(spec):
                for part in spec.parts:
                    begin = self._total + part.offset * dimension**3
                    self._begin[part.index, part.number, side] = begin
                self._total += spec.blocks * dimension**3
        self._set_owned(specs)

    def restricted_to(self, owned: Iterable[StackSpec]) -> "RefreshSchedule":
        """The same schedule for some of the blocks, gathered into stacks of their own."""
        schedule = copy.copy(self)
        schedule._set_owned(owned)
        return schedule

    def _set_owned(self, owned: Iterable[StackSpec]) -> None:
        """Notes (range, dimension, begin) of the factors of each part."""
        self._runs: list[tuple[FactorRange, int, int]] = []
        factors: list[FactorRange] = []
        for number, spec in enumerate(owned):
            for side, dimension in _sides(spec):
                for part in spec.parts:
                    begin = self._begin[part.index, part.number, side]
                    begin += part.start * dimension**3
                    stop = part.offset + part.grid.blocks
                    run = FactorRange(number, side, part.offset, stop)
                    self._runs.append((run, dimension, begin))
                    _append(factors, run)
        self._all = tuple(factors)
        self._interval = 0
        self._phases: dict[int, tuple[FactorRange, ...]] = {}

    def due(self, step: int, interval: int, mode: str) -> tuple[FactorRange, ...]:
        """The factors that are due at a step; a table look-up.

        Args:
          step: the group's step count, from 1.
          interval: steps between two refreshes of one factor; a new value rebuilds the table.
          mode: "together", all at the steps of `is_due`; or "staggered", all at powers of four
            below the interval, and at every step its share.

        Raises:
          ValueError: for another mode.
        """
        check_choice("refresh", mode, REFRESHES)
        if mode == "together":
            return self._all if is_due(step, interval) else ()
        if is_early(step, interval):
            return self._all
        if interval != self._interval:
            self._interval, self._phases = interval, self._cut(interval)
        return self._phases.get(step % interval, ())

    def phases(self, interval: int, mode: str) -> dict[int, tuple[FactorRange, ...]]:
        """What is due, by step % interval, at steps that are not early; phases without are missing.

        Args:
          interval, mode: as for `due`.

        Raises:
          ValueError: for another mode.
        """
        check_choice("refresh", mode, REFRESHES)
        return {0: self._all} if mode == "together" else self._cut(interval)

    def _cut(self, interval: int) -> dict[int, tuple[FactorRange, ...]]:
        """Factors by phase; exact integers, so that every rank cuts alike."""
        phases: dict[int, list[FactorRange]] = {}
        for (stack, side, first, end), dimension, begin in self._runs:
            cost, start = dimension**3, first
            while start < end:
                phase = interval * (begin + (start - first) * cost) // self._total
                until_next = (phase + 1) * self._total - interval * begin
                stop = min(end, first + -(-until_next // (interval * cost)))
                _append(phases.setdefault(phase, []), FactorRange(stack, side, start, stop))
                start = stop
        return {phase: tuple(ranges) for phase, ranges in phases.items()}


def _sides(spec: StackSpec) -> Iterator[tuple[int, int]]:
    """(side, dimension) of the factors that a stack has."""
    for side, dimension in enumerate((spec.height, spec.width)):
        if spec.sides[side]:
            yield side, dimension


def _append(ranges: list[FactorRange], new: FactorRange) -> None:
    """Appends a range, or extends the last one where `new` is adjacent to it."""
    last = ranges[-1] if ranges else None
    if last and (last.stack, last.side, last.stop) == (new.stack, new.side, new.start):
        ranges[-1] = last._replace(stop=new.stop)
    else:
        ranges.append(new)
