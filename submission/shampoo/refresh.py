"""Which factors are refreshed at which step; host arithmetic only, no tensors."""

import dataclasses
from collections.abc import Iterable, Iterator

from .blocking import StackLayout


def is_due(step: int, interval: int) -> bool:
    """Whether every factor is refreshed together at a step, counted from 1.

    Every `interval` steps, and at each power of two before the first: the earliest factors
    change the most, and no step goes without a preconditioner.

    >>> [step for step in range(1, 31) if is_due(step, 10)]
    [1, 2, 4, 8, 10, 20, 30]
    """
    return _is_early(step, interval) or step % interval == 0


def _is_early(step: int, interval: int) -> bool:
    return step < interval and step & (step - 1) == 0


@dataclasses.dataclass(frozen=True)
class Turn:
    """A contiguous range of one stack's blocks whose factor of one side is due.

    Attributes:
      stack: index of the stack.
      side: 0 for the left factor, 1 for the right.
      start, stop: first block and the one after the last.
    """

    stack: int
    side: int
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Run:
    """Adjacent factors of one side of a stack on the line that `Schedule` cuts.

    Attributes:
      stack, side: as in `Turn`.
      start, blocks: the first block, and how many.
      dimension: of each factor, whose cost is its cube.
      begin: where on the line the first begins.
    """

    stack: int
    side: int
    start: int
    blocks: int
    dimension: int
    begin: int


class Line:
    """All factors of a parameter group in order, each as long as its cost, the dimension's cube.

    It knows nothing of ranks or devices, so that a factor has the same turn on whichever it lies.

    Args:
      layouts: the stacks of the whole group.
    """

    def __init__(self, layouts: Iterable[StackLayout]) -> None:
        self._begin: dict[tuple[int, int, int], int] = {}
        self.total = 0
        for layout in layouts:
            for side, dimension in _sides(layout):
                for member in layout.members:
                    begin = self.total + member.offset * dimension**3
                    self._begin[member.index, member.number, side] = begin
                self.total += layout.blocks * dimension**3

    def runs(self, layouts: Iterable[StackLayout]) -> Iterator[Run]:
        """Where the factors of some of the blocks are, gathered into stacks of their own."""
        for number, layout in enumerate(layouts):
            for side, dimension in _sides(layout):
                for member in layout.members:
                    begin = self._begin[member.index, member.number, side]
                    begin += member.start * dimension**3
                    yield Run(number, side, member.offset, member.tile.blocks, dimension, begin)


def _sides(layout: StackLayout) -> Iterator[tuple[int, int]]:
    """(side, dimension) of the factors that a stack has."""
    for side, dimension in enumerate((layout.height, layout.width)):
        if layout.sides[side]:
            yield side, dimension


class Schedule:
    """When the factors of some stacks have their turns.

    In "staggered" mode the phases of an interval cut the line of all factors into equal parts: a
    factor belongs to the part in which it begins, so no phase has more work than the mean and one
    factor.

    Args:
      runs: of those factors that are refreshed here, by stack and side.
      total: length of the line that they are part of.

    >>> schedule = Schedule([Run(0, 0, 0, 4, 8, 0), Run(0, 1, 0, 4, 8, 2048)], 4096)
    >>> schedule.turns(12, 4, "together")
    (Turn(stack=0, side=0, start=0, stop=4), Turn(stack=0, side=1, start=0, stop=4))
    >>> for step in range(12, 16):
    ...     print(*schedule.turns(step, 4, "staggered"))
    Turn(stack=0, side=0, start=0, stop=2)
    Turn(stack=0, side=0, start=2, stop=4)
    Turn(stack=0, side=1, start=0, stop=2)
    Turn(stack=0, side=1, start=2, stop=4)
    """

    def __init__(self, runs: Iterable[Run], total: int) -> None:
        self._runs, self._total = [run for run in runs if run.blocks], total
        every: list[Turn] = []
        for run in self._runs:
            _append(every, Turn(run.stack, run.side, run.start, run.start + run.blocks))
        self._all = tuple(every)
        self._interval = 0
        self._phases: dict[int, tuple[Turn, ...]] = {}

    def turns(self, step: int, interval: int, mode: str) -> tuple[Turn, ...]:
        """What is due at a step; costs the host no more than handing it over.

        Args:
          step: the group's step count, from 1.
          interval: steps between two refreshes of one factor; a new one costs a new table.
          mode: "together", all at the steps of `is_due`; or "staggered", all at powers of two
            below the interval, and at every step its share.

        Raises:
          ValueError: for another mode.
        """
        if mode not in ("together", "staggered"):
            raise ValueError(f'refresh must be "together" or "staggered", got {mode!r}.')
        if mode == "together":
            return self._all if is_due(step, interval) else ()
        if _is_early(step, interval):
            return self._all
        if interval != self._interval:
            self._interval, self._phases = interval, self._cut(interval)
        return self._phases.get(step % interval, ())

    def _cut(self, interval: int) -> dict[int, tuple[Turn, ...]]:
        """Turns by phase; exact integers, so that every rank cuts alike."""
        phases: dict[int, list[Turn]] = {}
        for run in self._runs:
            cost, done = run.dimension**3, 0
            while done < run.blocks:
                phase = interval * (run.begin + done * cost) // self._total
                left_of_next = (phase + 1) * self._total - interval * run.begin
                stop = min(run.blocks, -(-left_of_next // (interval * cost)))
                turn = Turn(run.stack, run.side, run.start + done, run.start + stop)
                _append(phases.setdefault(phase, []), turn)
                done = stop
        return {phase: tuple(turns) for phase, turns in phases.items()}


def _append(turns: list[Turn], turn: Turn) -> None:
    """Adds a turn, to the last one where that ends at its beginning."""
    last = turns[-1] if turns else None
    if last and (last.stack, last.side, last.stop) == (turn.stack, turn.side, turn.start):
        turns[-1] = dataclasses.replace(last, stop=turn.stop)
    else:
        turns.append(turn)
